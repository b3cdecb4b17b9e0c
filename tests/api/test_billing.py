"""What callers say of payment, in the five calls that take it: nothing is billed, and nonsense is refused."""

from collections.abc import Iterator
from typing import Any

import pytest
from running import Site, running_site

UNKNOWN = "0c1d7c52-11aa-4c38-9a6f-3c9d5a2e7701"

CALLS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "create": (
        "/v2.1/{p}/cloudvolumes",
        {"volume": {"availability_zone": "az1", "volume_type": "SSD", "size": 10, "snapshot_id": UNKNOWN}},
        True,
    ),
    "extend": (f"/v2.1/{{p}}/cloudvolumes/{UNKNOWN}/action", {"os-extend": {"new_size": 20}}, True),
    "retype": (f"/v2/{{p}}/volumes/{UNKNOWN}/retype", {"os-retype": {"new_type": "ESSD"}}, True),
    "extend several": ("/v5/{p}/volumes/batch-extend", {"volumes": [{"id": UNKNOWN, "new_size": 20}]}, False),
    "charge mode": ("/v2/{p}/cloudvolumes/change-charge-mode", {"volume_ids": [UNKNOWN]}, False),
}
"""Each call's path, a body about what is not there, and whether it spells fields as ``periodNum``."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service that has nothing."""
    with running_site(tmp_path_factory.mktemp("billing")) as site:
        yield site


def ask(site: Site, call: str, status: int, payment: Any) -> dict[str, Any]:
    """Make a call that says *payment*, spelled as the call spells it, and return the error."""
    path, body, camel = CALLS[call]
    name = "bssParam" if camel else "bss_param"
    if camel and isinstance(payment, dict):
        payment = {spelled(key): value for key, value in payment.items()}
    error: dict[str, Any] = site.call("POST", path, status, json=body | {name: payment})["error"]
    return error


def spelled(key: str) -> str:
    """Spell ``period_num`` as ``periodNum``."""
    first, *others = key.split("_")
    return first + "".join(word.title() for word in others)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("payment", "words"),
    [
        ("junk", "valid dictionary"),
        ([], "valid dictionary"),
        ({"charging_mode": "prePaid"}, "must be postPaid: Onecut bills nothing; got 'prePaid'"),
        ({"charging_mode": 1}, "valid string"),
        ({"is_auto_pay": "yes"}, "'true' or 'false'"),
        ({"is_auto_renew": 1}, "'true' or 'false'"),
        ({"period_num": 0}, "greater than or equal to 1"),
        ({"period_num": 10}, "less than or equal to 9"),
        ({"period_num": "1"}, "valid integer"),
        ({"period_type": "day"}, "'month' or 'year'"),
        ({"period_type": "year", "period_num": 2}, "may be for 1 year"),
    ],
)
def test_what_makes_no_sense_is_refused(site: Site, call: str, payment: Any, words: str) -> None:
    """400 EVS.2147, before anything is looked for; the message names the field and says why."""
    error = ask(site, call, 400, payment)
    assert (error["code"], words in error["message"]) == ("EVS.2147", True), error
    assert error["message"].startswith("bss")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "payment",
    [
        None,
        {},
        {"charging_mode": "postPaid", "is_auto_pay": "true", "is_auto_renew": "false"},
        {"is_auto_pay": True, "period_num": 9, "period_type": "month", "unheard": 1},
        {"period_num": 1, "period_type": "year"},
    ],
)
def test_what_says_no_more_than_that_is_taken(site: Site, call: str, payment: Any) -> None:
    """The call gets as far as to what is not there."""
    assert ask(site, call, 404, payment)["code"] == "EVS.5404"
