"""Performance and types of volumes on the wire: paths, bodies, answers and refusals as EVS documents them."""

from typing import Any

import huaweicloudsdkevs.v2 as evs
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.region.region import Region
from running import Site, memory_engine, running_site

from onecut.engine.memory import MemoryEngine
from onecut.engine.port import Limits
from onecut.units import MiB

UNKNOWN = "0c1d7c52-11aa-4c38-9a6f-3c9d5a2e7701"
PLAIN = {"availability_zone": "az1", "volume_type": "SSD", "size": 10}
QOS = {"qos_modify": {"iops": 4000, "throughput": 200}}
RETYPE = {"os-retype": {"new_type": "SAS"}}


def create(site: Site, **fields: Any) -> str:
    answer = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json={"volume": PLAIN | fields})
    site.done(answer)
    volume_id: str = answer["volume_ids"][0]
    return volume_id


def show(site: Site, volume_id: str) -> dict[str, Any]:
    volume: dict[str, Any] = site.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200)["volume"]
    return volume


def in_force(site: Site, volume_id: str) -> Limits:
    assert isinstance(site.engine, MemoryEngine)
    return site.engine.limits(volume_id)


def refused(site: Site, method: str, path: str, status: int, code: str, *, body: Any) -> str:
    """Make a call that must be refused in EVS's form; return the message."""
    answer = site.call(method, path, status, json=body)
    assert answer["error"]["code"] == code, answer
    return str(answer["error"]["message"])


def test_the_vendors_client_changes_performance_and_type(site: Site) -> None:
    """Both of the SDK's operations, with their effect on what is shown and on what is in force."""
    known = site.credentials
    credentials = BasicCredentials(known["access_key"], known["secret_key"]).with_iam_endpoint(known["endpoint"])
    builder = evs.EvsClient.new_builder().with_credentials(credentials)
    client = builder.with_region(Region(known["region"], known["endpoint"])).build()
    volume_id = create(site, volume_type="GPSSD2", iops=3000, throughput=125)
    assert in_force(site, volume_id) == Limits(3000, 125 * MiB)

    qos = evs.ModifyVolumeQoSRequestBody(evs.ModifyVolumeQoSOption(iops=4000, throughput=200))
    changed = client.modify_volume_qo_s(evs.ModifyVolumeQoSRequest(volume_id, qos))
    assert site.done({"job_id": changed.job_id})["job_type"] == "modifyVolumeQos"
    volume = show(site, volume_id)
    assert (volume["iops"]["total_val"], volume["throughput"]["total_val"]) == (4000, 200)
    assert in_force(site, volume_id) == Limits(4000, 200 * MiB)

    new_type = evs.RetypeVolumeRequestBody(os_retype=evs.RetypeVolume(new_type="ESSD2", iops=100))
    retyped = client.retype_volume(evs.RetypeVolumeRequest(volume_id=volume_id, body=new_type))
    assert site.done({"job_id": retyped.job_id})["entities"]["volume_type"] == "ESSD2"
    volume = show(site, volume_id)
    assert (volume["status"], volume["volume_type"], volume["iops"]["total_val"]) == ("available", "ESSD2", 100)
    assert "throughput" not in volume
    assert in_force(site, volume_id) == Limits(100)


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "message"),
    [
        ("PUT", "/v5/{p}/cloudvolumes/{v}/qos", QOS, "EVS.5400", "iops: volume type SSD does not take it; got 4000"),
        ("PUT", "/v5/{p}/cloudvolumes/{v}/qos", {"qos_modify": {}}, "EVS.5400", "qos_modify.iops: field required"),
        ("PUT", "/v5/{p}/cloudvolumes/{v}/qos", {"qos_modify": {"iops": 0}}, "EVS.5400", "qos_modify.iops: "),
        ("POST", "/v2/{p}/volumes/{v}/retype", {"os-retype": {"new_type": "SSD"}}, "EVS.2088", "is SSD already"),
        ("POST", "/v2/{p}/volumes/{v}/retype", {"os-retype": {}}, "EVS.5400", "os-retype.new_type: field required"),
    ],
)
def test_what_can_not_be_is_refused(
    *, site: Site, method: str, path: str, body: Any, code: str, message: str
) -> None:
    """400 with code and message, and the volume is as it was."""
    volume_id = create(site)
    before = show(site, volume_id)

    assert message in refused(site, method, path.replace("{v}", volume_id), 400, code, body=body)

    assert show(site, volume_id) == before


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("PUT", "/v5/{p}/cloudvolumes/{v}/qos", QOS), ("POST", "/v2/{p}/volumes/{v}/retype", RETYPE)],
)
def test_another_tenants_volume_is_an_unknown_one(site: Site, method: str, path: str, body: Any) -> None:
    """A malformed id is EVS.1002, a foreign one is EVS.5404 as one that never was."""
    other, volume_id = site.second_tenant(), create(site, volume_type="GPSSD2", iops=3000, throughput=125)
    before = show(site, volume_id)

    refused(site, method, path.replace("{v}", "nonsense"), 400, "EVS.1002", body=body)
    refused(site, method, path.replace("{v}", UNKNOWN), 404, "EVS.5404", body=body)
    assert other.call(method, path.replace("{v}", volume_id), 404, json=body)["error"]["code"] == "EVS.5404"

    assert show(site, volume_id) == before


def test_the_setting_decides_what_limits_from_the_next_start_on(tmp_path: Any) -> None:
    """What was made under one setting follows another, chosen or by type, attached or not."""
    engines: list[MemoryEngine] = []

    def same_engine(*given: Any) -> MemoryEngine:
        engines.append(engines[0] if engines else memory_engine(*given))  # type: ignore[arg-type]
        return engines[0]

    def limits(qos: str) -> list[Limits]:
        with running_site(tmp_path, make_engine=same_engine, qos=qos) as site:
            return [in_force(site, volume_id) for volume_id in made]

    with running_site(tmp_path, make_engine=same_engine) as site:
        made = [create(site), create(site, volume_type="ESSD2", iops=100)]
        assert [in_force(site, volume_id) for volume_id in made] == [Limits(), Limits(100)]

    assert limits("types") == [Limits(2300, 125 * MiB), Limits(100)]
    assert limits("off") == [Limits(), Limits()]
    assert limits("volumes") == [Limits(), Limits(100)]
