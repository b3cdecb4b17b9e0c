"""PostgreSQL is only a URL away: the same schema, the same story, and row locks where SQLite has one writer."""

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from click.testing import CliRunner
from orders import create_at_once, new_server, new_volumes
from postgres import programs, running_postgres
from running import Site, running_site, sign_in, wait_until

from onecut.cli.main import main
from onecut.db.migrate import upgrade
from onecut.db.schema import Base
from onecut.db.session import Database
from onecut.service import scheduler

CALLERS = 8


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An empty PostgreSQL, by its URL."""
    bin_folder = programs()
    if bin_folder is None:
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    with running_postgres(bin_folder) as url:
        yield url


@pytest.fixture
def site(server: str, tmp_path: Path) -> Iterator[Site]:
    """A running service whose database is PostgreSQL."""
    with running_site(tmp_path, database=server) as site:
        yield site
    database = Database(server)
    with database.engine.begin() as connection:
        Base.metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE alembic_version")
    database.close()


def test_migrations_and_tables_agree(server: str) -> None:
    """The schema that the migrations make on PostgreSQL is the one the tables declare."""
    database = Database(server)
    upgrade(database)
    with database.engine.connect() as connection:
        difference = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    with database.engine.begin() as connection:
        Base.metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE alembic_version")
    database.close()

    assert difference == []


def test_a_group_is_taken_listed_rolled_back_and_deleted(site: Site) -> None:
    """The story of a group needs nothing that only SQLite has."""
    volume_ids = new_volumes(site, 2, new_server(site))
    for volume_id in volume_ids:
        place = site.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200)["volume"]["attachments"][0]
        server = f"/v1/{{p}}/cloudservers/{place['server_id']}"
        site.done(site.call("DELETE", f"{server}/detachvolume/{volume_id}", 200))
    body = {"snapshot_group": {"volume_ids": volume_ids, "name": "nightly", "tags": {"env": "prod"}}}
    taken = site.call("POST", "/v5/{p}/snapshot-groups", 202, json=body)
    site.done(taken)

    query = {"tags": '[{"key":"env","value":"prod"}]', "sort_key": "created_at"}
    listed = site.call("GET", "/v5/{p}/snapshot-groups/detail", 200, params=query)["snapshot_groups"]
    assert [group["id"] for group in listed] == [taken["snapshot_group_id"]]

    path = f"/v5/{{p}}/snapshot-groups/{taken['snapshot_group_id']}"
    site.done(site.call("POST", f"{path}/rollback", 202, json={"rollback": {}}))
    site.done(site.call("DELETE", path, 202))
    site.call("GET", path, 404)


def test_of_many_callers_one_gets_the_volume(site: Site) -> None:
    """Groups over the same volumes, asked for at once: none is cut twice, whoever comes second is told EVS.2409."""
    volume_ids = new_volumes(site, 2)
    barrier = threading.Barrier(CALLERS)
    answers: list[tuple[int, str]] = []

    def ask(order: int) -> None:
        chosen = volume_ids if order % 2 else volume_ids[::-1]
        barrier.wait()
        answer = site.client.post(
            f"/v5/{site.project_id}/snapshot-groups", json={"snapshot_group": {"volume_ids": chosen}}
        )
        answers.append((answer.status_code, answer.json().get("error", {}).get("code", "")))

    callers = [threading.Thread(target=ask, args=(order,)) for order in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert set(answers) <= {(202, ""), (400, "EVS.2409")}
    groups = site.call("GET", "/v5/{p}/snapshot-groups/detail", 200)["snapshot_groups"]
    assert len(groups) == answers.count((202, "")) >= 1


def test_a_user_is_made_let_in_and_shut_out_beside_the_service(
    site: Site, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`onecut admin` takes the database from the settings of the service, and holds from the next call on."""
    monkeypatch.setenv("ONECUT_DATABASE", server)

    def admin(*arguments: str, stdin: str = "") -> None:
        data = ["--data", str(site.onecut.settings.data)]
        ran = CliRunner().invoke(main, ["admin", *arguments, *data], input=stdin)
        assert ran.exit_code == 0, ran.output

    admin("user", "create", "ci", "--password-stdin", stdin="correct horse\n")
    admin("role", "grant", "ci", "reader", "--project", "region-1")
    with closing(sign_in(site.onecut.endpoint, "onecut", "ci", "correct horse", "region-1")) as client:
        path = f"/v2/{site.project_id}/cloudvolumes"
        assert client.get(f"{path}/detail").status_code == 200
        assert client.post(path, json={}).status_code == 403
        admin("role", "grant", "ci", "operator", "--project", "region-1")
        assert client.post(path, json={}).status_code == 400
        admin("user", "set", "ci", "--disable")
        assert client.get(f"{path}/detail").status_code == 401
    admin("user", "delete", "ci")


def test_equal_requests_at_once_are_one_creation(site: Site) -> None:
    """All callers with one client token get the same reply, byte for byte, and there is one volume."""
    token = "6d2f6c2e-5bd8-4e6b-93e5-0a5f7d1c9b42"

    answers = create_at_once(site, token, CALLERS)

    assert len(set(answers)) == 1
    assert b"job_id" in answers[0]
    found = site.call("GET", "/v2/{p}/cloudvolumes/detail", 200, params={"name": token})
    assert found["count"] == 1


def test_of_many_that_look_at_once_one_orders(site: Site) -> None:
    """Several services on one database, at a policy's time point, while the policy is changed: one run, one group."""
    volume_ids = new_volumes(site, 2, new_server(site))
    wanted = {"name": "hourly", "repeat_interval_days": 1, "time_points": ["1"], "retention_days": 1}
    made = site.call("POST", "/v5/{p}/snapshot-policies", 201, json={"snapshot_policy": wanted})
    path = f"/v5/{{p}}/snapshot-policies/{made['snapshot_policy']['id']}"
    site.call("POST", f"{path}/associate", 204, json=volume_ids)
    tomorrow = site.onecut.clock.now() + timedelta(days=1)
    barrier = threading.Barrier(CALLERS)
    ordered: list[int] = []

    def look() -> None:
        barrier.wait()
        ordered.append(scheduler.look(site.database, tomorrow))

    callers = [threading.Thread(target=look) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    site.call("PUT", path, 200, json={"snapshot_policy": {"name": "renamed"}})
    for caller in callers:
        caller.join()

    assert sorted(ordered) == [0] * (CALLERS - 1) + [2]
    assert len(site.call("GET", "/v5/{p}/snapshot-groups/detail", 200)["snapshot_groups"]) == 1
    site.call("DELETE", path, 204)


def test_legacy_snapshots_are_listed_renamed_and_deleted_with_their_volume(site: Site) -> None:
    """Names are as long as on SQLite, metadata is kept, and the lists find legacy ones only."""
    (volume_id,) = new_volumes(site, 1)
    body = {"snapshot": {"volume_id": volume_id, "name": "n" * 255, "description": "d" * 255, "metadata": {"a": "b"}}}
    made = site.call("POST", "/v2/{p}/cloudsnapshots", 202, json=body)["snapshot"]
    path = f"/v3/{{p}}/snapshots/{made['id']}"
    wait_until(lambda: site.call("GET", path, 200)["snapshot"]["status"] == "available", "the legacy snapshot")

    listed = site.call("GET", "/v2/{p}/cloudsnapshots/detail", 200, params={"volume_id": volume_id})
    assert (listed["count"], listed["snapshots"][0]["name"]) == (1, "n" * 255)
    assert site.call("POST", f"{path}/metadata", 200, json={"metadata": {"c": "d"}}) == {
        "metadata": {"a": "b", "c": "d"}
    }

    site.done(site.call("DELETE", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200))
    wait_until(lambda: site.call("GET", "/v3/{p}/snapshots", 200) == {"snapshots": []}, "the end of the snapshot")
