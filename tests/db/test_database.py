"""The database: its schema, its transactions, its times."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from running import DEADLINE_S
from sqlalchemy import Connection, MetaData, insert, select
from sqlalchemy.exc import IntegrityError

from onecut.db.identity import Domain, Project, RoleGrant, Token, User
from onecut.db.migrate import alembic_config, upgrade
from onecut.db.schema import Base
from onecut.db.session import Database
from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Volume


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database with the schema of this release."""
    database = Database(f"sqlite:///{tmp_path / 'onecut.db'}")
    upgrade(database)
    yield database
    database.close()


def test_migrations_and_tables_agree(database: Database) -> None:
    """The schema that the migrations make is the one the tables declare."""
    with database.engine.connect() as connection:
        difference = compare_metadata(MigrationContext.configure(connection), Base.metadata)

    assert difference == []


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    """A restart on an up-to-date database leaves it as it is."""
    with database.writing() as session:
        session.add(Domain(id="d", name="kept"))

    upgrade(database)

    with database.reading() as session:
        assert session.get_one(Domain, "d").name == "kept"


def test_a_writer_waits_for_the_one_before_it(database: Database) -> None:
    """Two writing transactions never interleave: the second reads what the first has written."""
    seen: list[str] = []

    def rename() -> None:
        with database.writing() as session:
            seen.append(session.get_one(Domain, "d").name)

    with database.writing() as session:
        session.add(Domain(id="d", name="before"))
    second = threading.Thread(target=rename)
    with database.writing() as session:
        session.get_one(Domain, "d").name = "after"
        session.flush()
        second.start()
        second.join(0.2)
        assert second.is_alive()
    second.join(DEADLINE_S)

    assert seen == ["after"]


def test_a_block_that_raises_leaves_no_trace(database: Database) -> None:
    """What a writing transaction did before it raised is undone."""

    def break_half_way() -> None:
        with database.writing() as session:
            session.add(Domain(id="d", name="gone"))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_half_way()

    with database.reading() as session:
        assert session.get(Domain, "d") is None


def test_references_are_enforced(database: Database) -> None:
    """A row can't name another that does not exist."""
    with pytest.raises(IntegrityError), database.writing() as session:
        session.add(Project(id="p", domain_id="nobody", name="region-1"))


def test_times_come_back_aware_and_to_the_microsecond(database: Database) -> None:
    """What is stored as a moment in UTC is read as the same moment."""
    moment = datetime(2026, 1, 15, 22, 10, 5, 120334, UTC)
    with database.writing() as session:
        session.add(Domain(id="d", name="d"))
        session.flush()
        session.add(User(id="u", domain_id="d", name="u", password_hash=""))
        session.flush()
        session.add(Token(token_sha256="t", user_id="u", methods="token", issued_at=moment, expires_at=moment))

    with database.reading() as session:
        assert session.get_one(Token, "t").issued_at == moment


def test_a_naive_time_is_refused(database: Database) -> None:
    """A time without a zone is a mistake of the code, never stored."""
    naive = datetime(2026, 1, 15)  # noqa: DTZ001 - that is the mistake

    with pytest.raises(Exception, match="aware"), database.writing() as session:
        session.add(Token(token_sha256="t", user_id="u", methods="", issued_at=naive, expires_at=naive))


@contextmanager
def schema_of(database: Database, revision: str) -> Iterator[Connection]:
    """Bring a new database to the schema of an earlier release, to be filled."""
    with database.engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        yield connection


def test_snapshots_of_a_release_without_device_modes_have_that_of_their_volume(tmp_path: Path) -> None:
    """Where the volume is still there; the others are as most are."""
    database = Database(f"sqlite:///{tmp_path / 'old.db'}")
    with schema_of(database, "0011") as connection:
        moment = datetime(2026, 1, 15, tzinfo=UTC)
        times = {"created_at": moment, "updated_at": moment}
        place = {"project_id": "p", "size_gib": 10, "volume_type": "SSD", "availability_zone": "az1"} | times
        connection.execute(insert(Domain).values(id="d", name="d", enabled=True))
        connection.execute(insert(Project).values(id="p", domain_id="d", name="p", enabled=True, description=""))
        connection.execute(
            insert(Volume).values(id="v", status="available", metadata_={"hw:passthrough": "true"}, **place)
        )
        tables = MetaData()
        tables.reflect(connection, only=["snapshot"])
        column = tables.tables["snapshot"].columns
        old = {each.name: "" for each in column if not each.nullable} | place
        old |= dict.fromkeys(("legacy", "instant_access", "instant_access_at_creation", "incremental"), False)
        old |= {"metadata": {}, "progress_percent": 0}
        for snapshot_id, volume_id in (("of-v", "v"), ("of-none", "gone")):
            connection.execute(
                insert(tables.tables["snapshot"]).values(old | {"id": snapshot_id, "volume_id": volume_id})
            )

    upgrade(database)

    with database.reading() as session:
        modes = session.execute(select(Snapshot.id, Snapshot.passthrough).order_by(Snapshot.id)).all()
        assert [tuple(each) for each in modes] == [("of-none", False), ("of-v", True)]
    database.close()


def test_users_of_a_release_without_roles_become_administrators(tmp_path: Path) -> None:
    """What they could do they still can: everything, in every project of their own domain."""
    database = Database(f"sqlite:///{tmp_path / 'old.db'}")
    with schema_of(database, "0004") as connection:
        for domain in ("one", "two"):
            connection.execute(insert(Domain).values(id=domain, name=domain, enabled=True))
            user = {"id": f"of-{domain}", "domain_id": domain, "name": "admin", "password_hash": "", "enabled": True}
            connection.execute(insert(User).values(user))

    upgrade(database)

    with database.reading() as session:
        grants = session.scalars(select(RoleGrant).order_by(RoleGrant.user_id)).all()
        assert [(grant.user_id, grant.domain_id, grant.project_id, grant.role) for grant in grants] == [
            ("of-one", "one", None, "admin"),
            ("of-two", "two", None, "admin"),
        ]
    database.close()
