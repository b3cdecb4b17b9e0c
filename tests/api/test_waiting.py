"""``Prefer: wait=SECONDS``: who waits for a job is answered when it has ended, and asks once."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from held_up import HeldUpEngine
from running import DEADLINE_S, Site, running_site

from onecut.api import jobs
from onecut.db.session import Database
from onecut.jobs import queue

VOLUME = {"availability_zone": "az1", "volume_type": "SSD", "size": 10}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site whose engine waits for `let_go`."""
    with running_site(tmp_path, make_engine=lambda _settings, _database, clock: HeldUpEngine(clock)) as site:
        try:
            yield site
        finally:
            let_go(site)


def let_go(site: Site) -> None:
    assert isinstance(site.engine, HeldUpEngine)
    site.engine.may.set()


def waited_for(site: Site, job_id: str) -> bool:
    return job_id in site.app_state.endings._waiting


def begun(site: Site) -> str:
    """Order a volume, and return the job's id."""
    answer = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json={"volume": VOLUME})
    return str(answer["job_id"])


def shown(site: Site, job_id: str, prefer: str, *, version: str = "v1") -> dict[str, Any]:
    found: dict[str, Any] = site.call("GET", f"/{version}/{{p}}/jobs/{job_id}", 200, headers={"Prefer": prefer})
    return found


@pytest.fixture
def asked() -> Iterator[Callable[..., "Future[dict[str, Any]]"]]:
    """Ask in a thread of its own, and return once the request waits."""
    with ThreadPoolExecutor() as threads:

        def ask(site: Site, job_id: str, prefer: str, **options: Any) -> "Future[dict[str, Any]]":
            answer = threads.submit(shown, site, job_id, prefer, **options)
            while not waited_for(site, job_id) and not answer.done():
                time.sleep(0.01)
            return answer

        yield ask


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("prefer", ["wait=400", "respond-async, Wait = 1000", 'handling=lenient; x=1, wait="400"; y'])
def test_the_answer_comes_when_the_job_has_ended(
    site: Site,
    asked: Callable[..., "Future[dict[str, Any]]"],
    monkeypatch: pytest.MonkeyPatch,
    prefer: str,
    version: str,
) -> None:
    """One question, on both paths, however the preference is written."""
    for name in ("WAIT_LIMIT_S", "LOOK_EVERY_S"):  # so that nothing but the job's end answers in time
        monkeypatch.setattr(jobs, name, 10 * DEADLINE_S)
    job_id = begun(site)
    answer = asked(site, job_id, prefer, version=version)
    assert not answer.done()
    let_go(site)
    assert answer.result(DEADLINE_S)["status"] == "SUCCESS"
    assert not waited_for(site, job_id)


def test_a_failed_job_ends_the_waiting_too(site: Site, asked: Callable[..., "Future[dict[str, Any]]"]) -> None:
    """With its code and its reason."""
    job_id = begun(site)
    answer = asked(site, job_id, "wait=4")
    with site.database.writing() as session:
        queue.fail(session, job_id, datetime.now(UTC), code="EVS.2002", reason="no space")
    assert (answer.result()["status"], answer.result()["fail_reason"]) == ("FAIL", "no space")


def test_an_end_that_another_service_wrote_is_noticed(
    site: Site, asked: Callable[..., "Future[dict[str, Any]]"]
) -> None:
    """One that shares the database; it is looked for now and then."""
    job_id = begun(site)
    answer = asked(site, job_id, "wait=4")
    other = Database(str(site.database.engine.url))
    with other.writing() as session:
        queue.finish(session, job_id, datetime.now(UTC))
    other.close()
    assert answer.result()["status"] == "SUCCESS"


@pytest.mark.parametrize("prefer", ["", "wait=0", "wait", "wait=soon", "wait=-1", "await=4", "return=minimal"])
def test_who_does_not_ask_for_it_never_waits(site: Site, prefer: str) -> None:
    """What is malformed is ignored, as the header's specification asks for."""
    assert shown(site, begun(site), prefer)["status"] in {"INIT", "RUNNING"}


def test_nobody_is_kept_for_longer_than_wanted(site: Site) -> None:
    """The answer is the job as it is; a service that stops is not kept waiting."""
    began = time.monotonic()
    assert shown(site, begun(site), "wait=1")["status"] in {"INIT", "RUNNING"}
    assert time.monotonic() - began >= 1
    assert jobs.WAIT_LIMIT_S < 5


def test_a_foreign_job_is_waited_for_by_nobody(site: Site) -> None:
    """It is as unknown as one that never was."""
    job_id = begun(site)
    other = site.second_tenant()
    error = other.call("GET", f"/v1/{{p}}/jobs/{job_id}", 400, headers={"Prefer": "wait=4"})["error"]
    assert error == {"code": "Common.0011", "message": f"job_id: job {job_id} does not exist"}
