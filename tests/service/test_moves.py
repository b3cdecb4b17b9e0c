"""Moving resources from state to state."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from onecut.db.identity import Domain, Project
from onecut.db.moves import move
from onecut.db.schema import Base
from onecut.db.session import Database
from onecut.db.volumes import Volume
from onecut.errors import NotFound, WrongState

BIRTH = datetime(2026, 1, 15, 22, 10, 5, tzinfo=UTC)
LATER = BIRTH + timedelta(seconds=1)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/onecut.db")
    Base.metadata.create_all(database.engine)
    with database.writing() as session:
        session.add_all([Domain(id="d" * 32, name="d"), Project(id="p" * 32, domain_id="d" * 32, name="p")])
    yield database
    database.close()


def add(database: Database, volume_id: str, status: str) -> None:
    with database.writing() as session:
        session.add(
            Volume(
                id=volume_id,
                project_id="p" * 32,
                status=status,
                size_gib=10,
                volume_type="SSD",
                availability_zone="az1",
                created_at=BIRTH,
                updated_at=BIRTH,
            )
        )


def statuses(database: Database) -> dict[str, str]:
    with database.reading() as session:
        return {volume.id: volume.status for volume in session.query(Volume)}


def test_a_move_changes_state_and_time_also_of_what_the_session_has_loaded(database: Database) -> None:
    """The row and the object in the session agree after the move."""
    add(database, "v1", "available")
    with database.writing() as session:
        volume = session.get_one(Volume, "v1")
        move(session, Volume, ["v1", "v1"], to="attaching", now=LATER)
        assert (volume.status, volume.updated_at) == ("attaching", LATER)
    assert statuses(database) == {"v1": "attaching"}


def test_one_resource_in_a_wrong_state_leaves_all_as_they_were(database: Database) -> None:
    """The error names the resource, its state and the states that would do; no member is moved."""
    add(database, "v1", "available")
    add(database, "v2", "creating")
    with (
        pytest.raises(WrongState, match=r"volume v2 is creating; this needs .*available or ") as caught,
        database.writing() as session,
    ):
        move(session, Volume, ["v2", "v1"], to="deleting", now=LATER, code="EVS.1046")
    assert caught.value.code == "EVS.1046"
    assert statuses(database) == {"v1": "available", "v2": "creating"}


def test_a_move_can_be_bound_to_one_state_before_it(database: Database) -> None:
    """`rollbacking` also leads to `available`, but who ends a creation moves no volume that is rolled back."""
    add(database, "v1", "rollbacking")
    with pytest.raises(WrongState), database.writing() as session:
        move(session, Volume, ["v1"], to="available", now=LATER, only_from={"creating"})
    assert statuses(database) == {"v1": "rollbacking"}


def test_a_resource_that_is_not_there_is_not_found(database: Database) -> None:
    """A row that went away is told apart from one in a wrong state."""
    with pytest.raises(NotFound, match="volume v9 does not exist"), database.writing() as session:
        move(session, Volume, ["v9"], to="deleting", now=LATER)
