"""
The examples of the OpenAPI document: of request bodies, of parameters, of answers and of errors.

Bodies stand here as they are, by the name of their schema, or else by the id of their operation. Answers are put
together from their schemas, with a value for each field. A test proves that each example is one of its schema.
"""

from collections.abc import Mapping
from typing import Any, Final

PROJECT = "0f3c6a7be4c94f0a9b7d2f1c5a6e8d90"
DOMAIN = "7c1e0d9a5b8f4e2d9a3c6b1f0e8d7a65"
USER = "4b8d1f6e2a9c4c7f8e5d3a2b1c0f9e8d"
JOB = "8abf96e79c0d4d23a4d7f4d0e5b6c7d8"
VOLUME = "0c1d7c52-11aa-4c38-9a6f-3c9d5a2e7701"
OTHER_VOLUME = "5f0e9a44-2b1c-4d8e-8f77-90aa12bc34de"
SERVER = "d8a1f6c2-7a55-4d0e-a1f0-61b1b9f5c7aa"
SNAPSHOT = "1f7d2a3c-84e5-4f8b-bb5a-6a0d4c7e9b21"
OTHER_SNAPSHOT = "2e8c3b4d-95f6-4a9c-8c6b-7b1e5d8fac32"
GROUP = "6b0b3a2e-3f0d-4f43-9b39-0b5a7c0d9e11"
CHAIN = "a0f4c1de-2b3c-4d5e-8f90-112233445566"
POLICY = "3d9e5c7a-6f1b-4e2d-a8c4-5b7f9e0d1a23"
TRANSFER = "9f2a4e6c-1b3d-4c5f-8e7a-0d9b8c7a6f54"
ATTACHMENT = "e7b5c3a1-9d8f-4b6e-8a2c-4f0e1d2c3b4a"
TYPE = "91b6d2f8-4c0e-5a7b-9d3f-2e8c6a1b5d40"
ACCESS_KEY = "QTWAOYTTINDUT2QVKYUC"
DIGEST = "3a7bd3e2360a3d29eea436fcfb7e44c735d117c42d1c1835420b6b9942dd4f1b"
TIME = "2026-01-15T22:10:05.120334"
LATER = "2026-02-14T22:10:05.120334"

BODIES: Final[Mapping[str, Any]] = {
    "SignIn": {
        "auth": {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": "admin", "password": "...", "domain": {"name": "onecut"}}},
            },
            "scope": {"project": {"name": "region-1"}},
        }
    },
    "CreateAccessKey": {"credential": {"user_id": USER, "description": "for scripts"}},
    "UpdateAccessKey": {"credential": {"status": "inactive"}},
    "CreateServer": {"server": {"name": "db1"}},
    "DeleteServers": {"servers": [{"id": SERVER}], "delete_volume": False},
    "AttachVolume": {"volumeAttachment": {"volumeId": VOLUME, "device": "/dev/vdb"}},
    "AttachToServers": {"serverinfo": [{"server_id": SERVER}]},
    "DetachFromServers": {"serverinfo": [{"server_id": SERVER}]},
    "UpdateBlockDevice": {"block_device": {"delete_on_termination": True}},
    "CreateVolume": {
        "volume": {
            "name": "data",
            "availability_zone": "az1",
            "volume_type": "SSD",
            "size": 40,
            "count": 2,
            "tags": {"env": "prod"},
        },
        "server_id": SERVER,
    },
    "UpdateVolume": {"volume": {"name": "log", "description": "write-ahead log"}},
    "ActOnVolume": {"os-extend": {"new_size": 80}, "bssParam": {"isAutoPay": "true"}},
    "CreateGroup": {
        "snapshot_group": {
            "server_id": SERVER,
            "volume_ids": [VOLUME, OTHER_VOLUME],
            "instant_access": True,
            "name": "nightly",
            "description": "data and log disks",
            "tags": {"env": "prod"},
            "incremental": True,
        }
    },
    "UpdateGroup": {"snapshot_group": {"name": "before the upgrade", "description": ""}},
    "TagsToAdd": {"tags": [{"key": "env", "value": "prod"}]},
    "TagsToRemove": {"tags": [{"key": "env"}]},
    "RollBackGroup": {"rollback": {"undo": True}},
    "CreateVolumes": {"volumes": {"server_id": SERVER}},
    "CreateSnapshot": {"snapshot": {"volume_id": VOLUME, "name": "before the upgrade", "retention_days": 30}},
    "UpdateSnapshot": {"snapshot": {"name": "after the upgrade", "instant_access": False}},
    "RollBackSnapshot": {"rollback": {"volume_id": VOLUME}},
    "SearchVolumes": {
        "action": "filter",
        "tags": [{"key": "env", "values": ["prod", "test"]}],
        "matches": [{"key": "resource_name", "value": "data"}],
        "limit": 100,
        "offset": 0,
    },
    "ExtendVolumes": {"volumes": [{"id": VOLUME, "new_size": 80}, {"id": OTHER_VOLUME, "new_size": 120}]},
    "Unsubscribe": {"volume_ids": [VOLUME, OTHER_VOLUME]},
    "ChangeChargeMode": {"volume_ids": [VOLUME], "server_id": SERVER, "bss_param": {"is_auto_pay": True}},
    "ModifyQos": {"qos_modify": {"iops": 5000, "throughput": 200}},
    "RetypeVolume": {"os-retype": {"new_type": "ESSD"}},
    "UpdateRecyclePolicy": {"switch": True, "threshold_time": 7, "keep_time": 14},
    "CreateTransfer": {"transfer": {"volume_id": VOLUME, "name": "to the other project"}},
    "AcceptTransfer": {"accept": {"auth_key": "..."}},
    "CreatePolicy": {
        "snapshot_policy": {
            "name": "nightly",
            "repeat_weekdays": ["1", "2", "3", "4", "5"],
            "time_points": ["1", "13"],
            "retention_days": 30,
            "tags": {"env": "prod"},
        }
    },
    "UpdatePolicy": {"snapshot_policy": {"repeat_interval_days": 1, "retention_days": -1}},
    "CreateLegacySnapshot": {"snapshot": {"volume_id": VOLUME, "name": "before the upgrade", "force": True}},
    "UpdateLegacySnapshot": {"snapshot": {"name": "after the upgrade"}},
    "CreateCinderVolume": {"volume": {"name": "data", "size": 40, "volume_type": "SSD", "metadata": {"env": "prod"}}},
    "UpdateCinderVolume": {"volume": {"name": "log", "description": "write-ahead log"}},
    "ActOnCinderVolume": {"os-extend": {"new_size": 80}},
    "MetadataBody": {"metadata": {"env": "prod"}},
    "MetaBody": {"meta": {"env": "prod"}},
    "ActOnCinderSnapshot": {"os-force_delete": None},
    "change_volume_tags_v2_post": {"action": "create", "tags": [{"key": "env", "value": "prod"}]},
    "associate_policy_v5_post": [VOLUME, OTHER_VOLUME],
    "disassociate_policy_v5_post": [OTHER_VOLUME],
}

PARAMETERS: Final[Mapping[str, Any]] = {
    "OpenStack-API-Version": "volume 3.0",
    "Prefer": "wait=4",
    "X-Client-Token": "b6c1f7d2-0e4a-4f7b-9c3d-8a5e2f1b7c60",
    "X-Subject-Token": "gAAAAABn...",
    "access_key": ACCESS_KEY,
    "availability_zone": "az1",
    "base": OTHER_SNAPSHOT,
    "bootable": True,
    "category": "standard",
    "dedicated_storage_id": "c5a7e9b1-3d2f-4e6a-8b0c-1f9d7e5a3c28",
    "dedicated_storage_name": "pool",
    "delete_flag": "1",
    "domain_id": DOMAIN,
    "enabled": True,
    "enterprise_project_id": "0",
    "id": VOLUME,
    "GET /v2/{project_id}/cloudsnapshots/detail id": [SNAPSHOT, OTHER_SNAPSHOT],
    "ids": f"{SNAPSHOT},{OTHER_SNAPSHOT}",
    "GET /v2/{project_id}/cloudvolumes/detail ids": f"['{VOLUME}','{OTHER_VOLUME}']",
    "is_domain": False,
    "job_id": JOB,
    "key": "env",
    "limit": 50,
    "marker": VOLUME,
    "GET /v5/{project_id}/snapshots/{snapshot_id}/changed-blocks marker": 1048576,
    "metadata": '{"env": "prod"}',
    "multiattach": True,
    "name": "data",
    "nocatalog": "1",
    "not_metadata": '{"env": "test"}',
    "offset": 50,
    "page": 2,
    "parent_id": DOMAIN,
    "per_page": 100,
    "project_id": PROJECT,
    "resource_id": VOLUME,
    "server_id": SERVER,
    "service_type": "EVS",
    "snapshot_chain_id": CHAIN,
    "snapshot_group_id": GROUP,
    "snapshot_id": SNAPSHOT,
    "snapshot_policy_id": POLICY,
    "snapshot_type": "auto",
    "sort": "size:asc",
    "sort_dir": "asc",
    "sort_key": "created_at",
    "status": "available",
    "tag_key": "env",
    "tags": '[{"key": "env", "value": "prod"}]',
    "target_project_id": PROJECT,
    "transfer_id": TRANSFER,
    "type_id": TYPE,
    "usage": True,
    "user_id": USER,
    "volume_id": VOLUME,
    "volume_type_id": TYPE,
}
"""By name; by operation and name where one means something else there."""

FIELDS: Final[Mapping[str, Any]] = {
    "OS-EXT-AZ:availability_zone": "az1",
    "absolute": {"maxTotalVolumes": 200, "totalVolumesUsed": 12},
    "access": ACCESS_KEY,
    "alias": "os-volume-actions",
    "archived_at": TIME,
    "attached_at": TIME,
    "attachment_id": ATTACHMENT,
    "auth_key": "kq3u...",
    "availability_zone": "az1",
    "base_digest": None,
    "begin_time": "2026-01-15T22:10:05.120Z",
    "begun_at": TIME,
    "block_size": 65536,
    "bootable": "false",
    "capacity": 12,
    "category": "standard",
    "count": 1,
    "create_time": f"{TIME}Z",
    "created": "2026-01-15T22:10:05Z",
    "created_at": TIME,
    "delete_on_termination": "false",
    "description": "data and log disks",
    "device": "/dev/vdb",
    "digest": DIGEST,
    "domain_id": DOMAIN,
    "due_at": TIME,
    "enabled": True,
    "end_time": "2026-01-15T22:10:41.001Z",
    "engine": "qemu-storage-daemon 7.2.17 serves 12 volumes",
    "enterprise_project_id": "0",
    "entities": {"volume_id": VOLUME, "volume_type": "SSD", "size": 40, "name": "data"},
    "expires_at": "2026-01-16T22:10:05.120334Z",
    "extra_specs": {"volume_backend_name": "SSD", "RESKEY:availability_zones": "az1"},
    "free_blk": 126,
    "free_disk": 126,
    "free_scsi": 126,
    "host_name": "db1",
    "href": "http://127.0.0.1:8776/v2/...",
    "id": VOLUME,
    "CatalogEntry.id": "volumev3",
    "ChainDetail.id": CHAIN,
    "DomainView.id": DOMAIN,
    "EndpointView.id": "volumev3-region-1",
    "GroupDetail.id": GROUP,
    "GroupShown.id": GROUP,
    "LegacySnapshotDetail.id": SNAPSHOT,
    "LegacySnapshotListed.id": SNAPSHOT,
    "Named.id": DOMAIN,
    "NamedInDomain.id": PROJECT,
    "NewTransferView.id": TRANSFER,
    "PolicyDetail.id": POLICY,
    "PolicyShown.id": POLICY,
    "ProjectView.id": PROJECT,
    "RegionView.id": "region-1",
    "ServerView.id": SERVER,
    "SnapshotDetail.id": SNAPSHOT,
    "SnapshotShown.id": SNAPSHOT,
    "TokenUser.id": USER,
    "TransferSummary.id": TRANSFER,
    "TransferView.id": TRANSFER,
    "TypeView.id": TYPE,
    "VersionView.id": "v3.0",
    "in_engine": True,
    "incremental": True,
    "issued_at": f"{TIME}Z",
    "job_id": JOB,
    "job_type": "createVolume",
    "keep_time": 14,
    "key": "env",
    "length": 65536,
    "locales": {"en-us": "region-1"},
    "meta": {"env": "prod"},
    "metadata": {"env": "prod"},
    "methods": ["password"],
    "min_version": "3.0",
    "name": "data",
    "CatalogEntry.name": "evs",
    "Named.name": "onecut",
    "NamedInDomain.name": "region-1",
    "ProjectView.name": "region-1",
    "TokenUser.name": "admin",
    "next_at": LATER,
    "next_marker": 1048576,
    "offset": 1048576,
    "bus": "virtio",
    "os-extended-snapshot-attributes:progress": "100%",
    "os-extended-snapshot-attributes:project_id": PROJECT,
    "os-vol-tenant-attr:tenant_id": PROJECT,
    "parent_id": DOMAIN,
    "pause_ms": 7.4,
    "plan_delete_at": LATER,
    "pre_deleted_at": TIME,
    "prepare_ms": 21.9,
    "progress": "100%",
    "HydrationView.progress": "37%",
    "project_id": PROJECT,
    "quota_set": {"id": PROJECT, "volumes": 200, "gigabytes": 20000, "snapshots": 4096},
    "ready": True,
    "region": "region-1",
    "region_id": "region-1",
    "rel": "self",
    "repeat_weekdays": ["1", "3", "5"],
    "resource_id": VOLUME,
    "resource_name": "data",
    "retention_at": LATER,
    "retention_days": 30,
    "TokenView.roles": [{"id": "0", "name": "admin"}],
    "root": DIGEST,
    "secret": "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc",
    "self": "http://127.0.0.1:8776/v3/...",
    "server_id": SERVER,
    "serverId": SERVER,
    "serverIds": [SERVER],
    "shareable": "false",
    "FoundVolumeView.shareable": False,
    "size": 40,
    "ChangedBlocks.size": 42949672960,
    "snapshot_count": 3,
    "snapshot_group_id": GROUP,
    "snapshot_id": SNAPSHOT,
    "snapshot_type": "user",
    "status": "available",
    "AccessKeyView.status": "active",
    "BinnedVolume.status": "pending-destroy",
    "JobView.status": "SUCCESS",
    "NewAccessKeyView.status": "active",
    "VersionView.status": "CURRENT",
    "stored_bytes": 73400320,
    "switch": True,
    "tags": {"env": "prod"},
    "ServerView.status": "ACTIVE",
    "ServerView.tags": [],
    "TagsOfVolumes.tags": {"env": ["prod", "test"]},
    "taken_at": TIME,
    "tenant_id": PROJECT,
    "threshold_time": 7,
    "time_points": ["1", "13"],
    "total_count": 1,
    "total_val": 5000,
    "type": "volumev3",
    "MediaType.type": "application/vnd.openstack.volume+json;version=3",
    "undo_snapshot_group_id": GROUP,
    "unusable_volumes": 0,
    "updated": "2026-01-15T22:10:05Z",
    "updated_at": TIME,
    "uri": f"nbd+unix:///{ATTACHMENT}?socket=/run/onecut/nbd.sock",
    "url": f"http://127.0.0.1:8776/v3/{PROJECT}",
    "user_id": USER,
    "value": "prod",
    "TagValues.value": ["prod", "test"],
    "version": "3.0",
    "volume_id": VOLUME,
    "volumeId": VOLUME,
    "volume_ids": [VOLUME, OTHER_VOLUME],
    "volume_type": "SSD",
    "zoneName": "az1",
}
"""Of answers, by name; by schema and name where one means something else there. What may be null is, unless named."""

ERRORS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("EVS.5400", "offset: input should be greater than or equal to 0; got '-1'"),
    401: ("APIGW.0301", "the token is unknown or has expired"),
    403: ("EVS.1027", f"the role in project {PROJECT} does not permit evs:volumes:create"),
    404: ("EVS.5404", f"volume {VOLUME} does not exist"),
    406: ("EVS.5400", "version 3.70 is not supported by the API: minimum and maximum are 3.0"),
    408: ("APIGW.0201", "the body did not arrive within 30 s"),
    409: ("EVS.2409", f"volume {VOLUME} has a snapshot that is still being created; try again later"),
    413: ("APIGW.0201", "the body has more than 1048576 bytes"),
    500: ("EVS.5500", "internal error; the log has the details under request 5b1f0c3a9e7d4d62"),
    503: ("EVS.5503", "the database does not answer; try again later"),
}
"""Code and message of an error, by its status."""

REQUEST_ID: Final = "5b1f0c3a9e7d4d62"

METRICS: Final = '# TYPE onecut_volumes gauge\nonecut_volumes{status="available"} 12.0\n'


def parameter(operation: str, name: str) -> Any:  # noqa: ANN401 - an example is of any type
    """Return the example of a parameter of an operation, such as ``GET /v5/...``."""
    return PARAMETERS.get(f"{operation} {name}", PARAMETERS.get(name))


def answer(schema: Mapping[str, Any], schemas: Mapping[str, Any], where: str = "", name: str = "") -> Any:  # noqa: ANN401 - see above
    """
    Put an example of an answer together.

    Args:
        schema: The answer's, or a part of it.
        schemas: Those that it refers to.
        where: The name of the schema that has the part as a field.
        name: The field's.

    Raises:
        KeyError: A field has no value in `FIELDS`.
    """
    if "$ref" in schema:
        referred = schema["$ref"].rsplit("/", 1)[-1]
        return answer(schemas[referred], schemas, referred, name)
    if "properties" in schema:
        return {field: answer(part, schemas, where, field) for field, part in schema["properties"].items()}
    if f"{where}.{name}" in FIELDS:
        return FIELDS[f"{where}.{name}"]
    kinds = schema.get("anyOf", [schema])
    if any("$ref" in kind or kind.get("items", {}).keys() & {"$ref"} for kind in kinds):
        return _composed(kinds[0], schemas, where, name)
    return _value(schema, kinds, name)


def _composed(schema: Mapping[str, Any], schemas: Mapping[str, Any], where: str, name: str) -> Any:  # noqa: ANN401 - see above
    if schema.get("type") == "array":
        return [answer(schema["items"], schemas, where, name)]
    return answer(schema, schemas, where, name)


def _value(schema: Mapping[str, Any], kinds: list[Mapping[str, Any]], name: str) -> Any:  # noqa: ANN401 - see above
    for word in ("const", "default"):
        if word in schema:
            return schema[word]
    if "enum" in schema:
        return schema["enum"][0]
    if name not in FIELDS and any(kind.get("type") == "null" for kind in kinds):
        return None
    if name not in FIELDS and schema.get("type") in {"boolean", "object", "array"}:
        return {"boolean": False, "object": {}, "array": []}[schema["type"]]
    return FIELDS[name]


def error(form: str, status: int, phrase: str, kind: str) -> dict[str, Any]:
    """Return an example of an error: in EVS's form, the gateway's, Keystone's, or Cinder's, which names its kind."""
    code, message = ERRORS[status]
    if form == "GatewayError":
        return {"error_code": code, "error_msg": message, "request_id": REQUEST_ID}
    if form == "KeystoneError":
        return {"error": {"code": status, "title": phrase, "message": message}}
    return {kind if form == "CinderError" else "error": {"code": code, "message": message}}
