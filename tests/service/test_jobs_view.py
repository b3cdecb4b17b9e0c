"""What a client sees of a job while it waits, runs, and after it has ended."""

from datetime import timedelta
from typing import Any

from workshop import OURS, THEIRS, Workshop, refusal

from onecut.api.jobs import look
from onecut.errors import BadRequest
from onecut.jobs import queue
from onecut.jobs.queue import JobOrder, SubJob


def add(shop: Workshop, *sub_jobs: SubJob) -> str:
    order = JobOrder(OURS, "createSnapshotGroup", {}, {"cut": {"pause_ms": 1.5}}, sub_jobs)
    with shop.database.writing() as session:
        return queue.add(session, order, shop.clock.now())


def shown(shop: Workshop, job_id: str) -> dict[str, Any]:
    return look(shop.database, OURS, job_id).model_dump()


def test_a_job_that_waits_has_a_begin_and_no_end(shop: Workshop) -> None:
    """The time of its acceptance stands for the begin; the end is an empty text, not null."""
    job_id = add(shop)
    assert shown(shop, job_id) == {
        "status": "INIT",
        "job_id": job_id,
        "job_type": "createSnapshotGroup",
        "begin_time": "2026-01-15T22:10:05.000Z",
        "end_time": "",
        "error_code": None,
        "fail_reason": None,
        "entities": {"cut": {"pause_ms": 1.5}},
    }


def test_members_that_ended_show_it_while_the_job_goes_on(shop: Workshop) -> None:
    """Sub jobs stand in the order of the members, beside the job's own entities; only open ones fail."""
    job_id = add(shop, *(SubJob("createSnapshot", {"volume_id": name}) for name in "abc"))
    with shop.database.writing() as session:
        queue.begin(session, job_id, "cut", shop.clock.now())
    shop.clock.jump(timedelta(milliseconds=1500))
    with shop.database.writing() as session:
        queue.finish_member(session, job_id, 1, shop.clock.now())
    job = shown(shop, job_id)
    subs = job["entities"]["sub_jobs"]
    assert (job["status"], job["entities"]["cut"]) == ("RUNNING", {"pause_ms": 1.5})
    assert [(sub["entities"], sub["status"]) for sub in subs] == [
        ({"volume_id": "a"}, "RUNNING"),
        ({"volume_id": "b"}, "SUCCESS"),
        ({"volume_id": "c"}, "RUNNING"),
    ]
    assert [sub["end_time"] for sub in subs] == ["", "2026-01-15T22:10:06.500Z", ""]

    with shop.database.writing() as session:
        queue.fail(session, job_id, shop.clock.now(), code="EVS.2002", reason="no space")
    job = shown(shop, job_id)
    assert (job["status"], job["error_code"], job["fail_reason"]) == ("FAIL", "EVS.2002", "no space")
    assert [sub["status"] for sub in job["entities"]["sub_jobs"]] == ["FAIL", "SUCCESS", "FAIL"]
    assert [sub["fail_reason"] for sub in job["entities"]["sub_jobs"]] == ["no space", None, "no space"]


def test_a_foreign_job_is_as_unknown_as_one_that_never_was(shop: Workshop) -> None:
    """400 Common.0011 for both, as EVS answers."""
    job_id = add(shop)
    for project_id, asked in ((THEIRS, job_id), (OURS, "f" * 32)):
        with refusal(shop, BadRequest, f"job {asked} does not exist", code="Common.0011"):
            look(shop.database, project_id, asked)
