"""Quotas without HTTP: what an extension that is under way counts, and who may set a limit to what."""

import asyncio

import pytest
from workshop import OURS, THEIRS, Workshop, refusal

from onecut.db.volumes import Volume
from onecut.errors import BadRequest, QuotaExceeded
from onecut.service import quotas, volumes


def limit(shop: Workshop, **limits: int | None) -> None:
    with shop.database.writing() as session:
        for resource, number in limits.items():
            quotas.set_limit(session, OURS, resource, number)


def test_an_extension_counts_from_its_order_on(shop: Workshop) -> None:
    """Before its job has run no other takes the same room; afterwards it is in use."""
    first, second = shop.volumes(2)
    limit(shop, gigabytes=35)
    job_id = shop.ask(volumes.order_extension, first, 25)
    with refusal(shop, QuotaExceeded, "gigabytes: the project's quota is 35", code="EVS.1042"):
        shop.ask(volumes.order_extension, second, 11)
    assert shop.look(quotas.show)["gigabytes"] == quotas.Quota(limit=35, in_use=20, reserved=15)

    assert shop.job(job_id).status == "SUCCESS"

    assert shop.look(quotas.show)["gigabytes"] == quotas.Quota(limit=35, in_use=35, reserved=0)


def test_an_extension_that_fails_gives_its_room_back(shop: Workshop) -> None:
    """The engine has no such volume: the job fails, and nothing is reserved any more."""
    volume_id = shop.volume()
    job_id = shop.ask(volumes.order_extension, volume_id, 20)
    asyncio.run(shop.engine.delete_volume(volume_id))
    assert shop.job(job_id).status == "FAIL"
    assert shop.get(Volume, volume_id).status == "error_extending"
    assert shop.look(quotas.show)["gigabytes"] == quotas.Quota(limit=-1, in_use=10, reserved=0)


def test_a_projects_own_limit_goes_before_the_default(shop: Workshop) -> None:
    """Another project has the default, and so has this one when its own is taken away."""
    with shop.database.writing() as session:
        quotas.set_defaults(session, {"volumes": 5})
    limit(shop, volumes=7)
    limits = [shop.look(quotas.limits, project_id=project_id)["volumes"] for project_id in (OURS, THEIRS)]
    assert limits == [7, 5]
    limit(shop, volumes=None)
    limit(shop, volumes=None)
    assert shop.look(quotas.limits)["volumes"] == 5
    limit(shop, volumes=-1)
    assert shop.look(quotas.show)["volumes"].limit == -1


@pytest.mark.parametrize(
    ("resource", "number", "words"),
    [
        ("disks", 1, "resource: 'disks' is not one of volumes, gigabytes, snapshots, per_volume_gigabytes"),
        ("backups", 1, "resource: 'backups' is not one of"),
        ("volumes", -2, "limit: must be -1 (no limit) to 2147483647, not -2"),
        ("volumes", 2**31, "limit: must be -1 (no limit) to 2147483647, not 2147483648"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(shop: Workshop, resource: str, number: int, words: str) -> None:
    """It names the resource or the limit, and changes nothing."""
    with refusal(shop, BadRequest, words):
        limit(shop, **{resource: number})
    assert shop.look(quotas.limits) == {}
