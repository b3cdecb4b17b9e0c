"""
An example of each request body, by the name of its schema, or else by the id of its operation.

A test proves that each is a body that is taken.
"""

from typing import Any, Final

VOLUME = "0c1d7c52-11aa-4c38-9a6f-3c9d5a2e7701"
OTHER_VOLUME = "5f0e9a44-2b1c-4d8e-8f77-90aa12bc34de"
SERVER = "d8a1f6c2-7a55-4d0e-a1f0-61b1b9f5c7aa"

EXAMPLES: Final[dict[str, Any]] = {
    "SignIn": {
        "auth": {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": "admin", "password": "...", "domain": {"name": "onecut"}}},
            },
            "scope": {"project": {"name": "region-1"}},
        }
    },
    "CreateAccessKey": {"credential": {"user_id": "0f3c6a7be4c94f0a9b7d2f1c5a6e8d90", "description": "for scripts"}},
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
    "ActOnVolume": {"os-extend": {"new_size": 80}},
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
    "ChangeChargeMode": {"volume_ids": [VOLUME], "server_id": SERVER},
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
