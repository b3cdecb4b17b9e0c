"""
Which action each project call is, by EVS's names; `onecut.service.roles` says who may do it.

Names are those of the identity policies where EVS documents one, of its older role policies else (tags of volumes,
transfers, quotas, types), and formed likewise where neither has one. A call that does several things, told apart by
its body, is one action. A call that is missing here can't be made by anybody.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

Call = tuple[str, str]
"""Method, and path below the project with ``{}`` in place of each id."""

_NATIVE: Final[Mapping[Call, str | None]] = {
    # Snapshot groups, snapshots, chains and policies: /v5
    ("POST", "/v5/snapshot-groups"): "evs:snapshotGroups:create",
    ("GET", "/v5/snapshot-groups/detail"): "evs:snapshotGroups:list",
    ("GET", "/v5/snapshot-groups/count"): "evs:snapshotGroups:list",
    ("GET", "/v5/snapshot-groups/tags"): "evs:snapshotGroups:listTags",
    ("GET", "/v5/snapshot-groups/{}"): "evs:snapshotGroups:get",
    ("PUT", "/v5/snapshot-groups/{}"): "evs:snapshotGroups:update",
    ("DELETE", "/v5/snapshot-groups/{}"): "evs:snapshotGroups:delete",
    ("POST", "/v5/snapshot-groups/{}/tags/create"): "evs:snapshotGroups:tagResource",
    ("POST", "/v5/snapshot-groups/{}/tags/delete"): "evs:snapshotGroups:unTagResource",
    ("POST", "/v5/snapshot-groups/{}/rollback"): "evs:snapshots:rollback",
    ("POST", "/v5/snapshot-groups/{}/volumes"): "evs:volumes:create",
    ("POST", "/v5/snapshots"): "evs:snapshots:create",
    ("GET", "/v5/snapshots/detail"): "evs:snapshots:list",
    ("GET", "/v5/snapshots/count"): "evs:snapshots:list",
    ("GET", "/v5/snapshots/tags"): "evs:snapshots:listTags",
    ("GET", "/v5/snapshots/{}"): "evs:snapshots:get",
    ("PUT", "/v5/snapshots/{}"): "evs:snapshots:update",
    ("DELETE", "/v5/snapshots/{}"): "evs:snapshots:delete",
    ("POST", "/v5/snapshots/{}/rollback"): "evs:snapshots:rollback",
    ("POST", "/v5/snapshots/{}/tags/create"): "evs:snapshots:tagResource",
    ("POST", "/v5/snapshots/{}/tags/delete"): "evs:snapshots:unTagResource",
    ("GET", "/v5/snapshots/{}/changed-blocks"): "evs:snapshots:get",
    ("GET", "/v5/snapshot-chains"): "evs:snapshotChains:list",
    ("GET", "/v5/snapshot-chains/count"): "evs:snapshotChains:list",
    ("POST", "/v5/snapshot-policies"): "evs:snapshotPolicy:create",
    ("GET", "/v5/snapshot-policies"): "evs:snapshotPolicy:list",
    ("GET", "/v5/snapshot-policies/count"): "evs:snapshotPolicy:list",
    ("GET", "/v5/snapshot-policies/tags"): "evs:snapshotPolicy:listTags",
    ("GET", "/v5/snapshot-policies/{}"): "evs:snapshotPolicy:get",
    ("PUT", "/v5/snapshot-policies/{}"): "evs:snapshotPolicy:update",
    ("DELETE", "/v5/snapshot-policies/{}"): "evs:snapshotPolicy:delete",
    ("POST", "/v5/snapshot-policies/{}/associate"): "evs:snapshotPolicy:associate",
    ("POST", "/v5/snapshot-policies/{}/disassociate"): "evs:snapshotPolicy:disassociate",
    ("POST", "/v5/snapshot-policies/{}/tags/create"): "evs:snapshotPolicy:tagResource",
    ("POST", "/v5/snapshot-policies/{}/tags/delete"): "evs:snapshotPolicy:unTagResource",
    # Legacy snapshots: /v2
    ("POST", "/v2/cloudsnapshots"): "evs:snapshots:create",
    ("GET", "/v2/cloudsnapshots/detail"): "evs:snapshots:list",
    ("GET", "/v2/cloudsnapshots/{}"): "evs:snapshots:get",
    ("PUT", "/v2/cloudsnapshots/{}"): "evs:snapshots:update",
    ("DELETE", "/v2/cloudsnapshots/{}"): "evs:snapshots:delete",
    ("POST", "/v2/cloudsnapshots/{}/rollback"): "evs:snapshots:rollback",
    # Volumes
    ("POST", "/v2/cloudvolumes"): "evs:volumes:create",
    ("POST", "/v2.1/cloudvolumes"): "evs:volumes:create",
    ("POST", "/v3/cloudvolumes"): "evs:volumes:create",
    ("GET", "/v2/cloudvolumes/detail"): "evs:volumes:list",
    ("GET", "/v2/cloudvolumes/{}"): "evs:volumes:get",
    ("PUT", "/v2/cloudvolumes/{}"): "evs:volumes:update",
    ("DELETE", "/v2/cloudvolumes/{}"): "evs:volumes:delete",
    ("POST", "/v2/cloudvolumes/{}/action"): "evs:volumes:extend",
    ("POST", "/v2.1/cloudvolumes/{}/action"): "evs:volumes:extend",
    ("POST", "/v5/volumes/batch-extend"): "evs:volumes:extend",
    ("POST", "/v2/volumes/{}/retype"): "evs:volumes:retype",
    ("PUT", "/v5/cloudvolumes/{}/qos"): "evs:volumes:modifyQos",
    ("POST", "/v2/cloudvolumes/change-charge-mode"): "evs:volumes:changeChargeMode",
    ("POST", "/v2/cloudvolumes/unsubscribe"): "evs:volumes:delete",
    ("POST", "/v2/cloudvolumes/{}/tags/action"): "evs:volumeTags:create",
    ("GET", "/v2/cloudvolumes/{}/tags"): "evs:volumeTags:getById",
    ("GET", "/v2/cloudvolumes/tags"): "evs:volumeTags:list",
    ("POST", "/v2/cloudvolumes/resource_instances/action"): "evs:volumeTags:get",
    ("GET", "/v3/recycle-bin-volumes/detail"): "evs:recycleBin:list",
    ("GET", "/v3/recycle-bin-volumes/policy"): "evs:recycleBin:getPolicy",
    ("PUT", "/v3/recycle-bin-volumes/policy"): "evs:recycleBin:updatePolicy",
    ("GET", "/v3/recycle-bin-volumes/{}"): "evs:recycleBin:get",
    ("DELETE", "/v3/recycle-bin-volumes/{}"): "evs:recycleBin:delete",
    ("POST", "/v3/recycle-bin-volumes/{}/revert"): "evs:recycleBin:revert",
    # Jobs: EVS asks for no permission
    ("GET", "/v1/jobs/{}"): None,
    ("GET", "/v2/jobs/{}"): None,
    # Servers, by the names of ECS
    ("POST", "/v1/cloudservers"): "ecs:cloudServers:create",
    ("POST", "/v1/cloudservers/delete"): "ecs:cloudServers:delete",
    ("GET", "/v1/cloudservers/detail"): "ecs:cloudServers:list",
    ("GET", "/v1/cloudservers/{}"): "ecs:cloudServers:showServer",
    ("POST", "/v1/cloudservers/{}/attachvolume"): "ecs:cloudServers:attach",
    ("DELETE", "/v1/cloudservers/{}/detachvolume/{}"): "ecs:cloudServers:detachVolume",
    ("POST", "/v1/batchaction/attachvolumes/{}"): "ecs:cloudServers:attachSharedVolume",
    ("POST", "/v1/batchaction/detachvolumes/{}"): "ecs:cloudServers:detachVolume",
    ("GET", "/v1/cloudservers/{}/block_device"): "ecs:cloudServers:listServerBlockDevices",
    ("GET", "/v1/cloudservers/{}/block_device/{}"): "ecs:cloudServers:showServerBlockDevice",
    ("PUT", "/v1/cloudservers/{}/block_device/{}"): "ecs:cloudServers:updateServerBlockDevice",
    ("GET", "/v1/cloudservers/{}/os-volume_attachments"): "ecs:cloudServers:listServerVolumeAttachments",
    ("GET", "/v1/cloudservers/{}/appendvolumequota"): "ecs:cloudServers:showServer",
}

_CINDER: Final[Mapping[Call, str | None]] = {
    ("POST", "/volumes"): "evs:volumes:create",
    ("GET", "/volumes"): "evs:volumes:list",
    ("GET", "/volumes/detail"): "evs:volumes:list",
    ("GET", "/volumes/{}"): "evs:volumes:get",
    ("PUT", "/volumes/{}"): "evs:volumes:update",
    ("DELETE", "/volumes/{}"): "evs:volumes:delete",
    ("POST", "/volumes/{}/action"): "evs:volumes:use",
    ("GET", "/volumes/{}/metadata"): "evs:volumes:get",
    ("POST", "/volumes/{}/metadata"): "evs:volumes:update",
    ("PUT", "/volumes/{}/metadata"): "evs:volumes:update",
    ("GET", "/volumes/{}/metadata/{}"): "evs:volumes:get",
    ("PUT", "/volumes/{}/metadata/{}"): "evs:volumes:update",
    ("DELETE", "/volumes/{}/metadata/{}"): "evs:volumes:update",
    ("POST", "/snapshots"): "evs:snapshots:create",
    ("GET", "/snapshots"): "evs:snapshots:list",
    ("GET", "/snapshots/detail"): "evs:snapshots:list",
    ("GET", "/snapshots/{}"): "evs:snapshots:get",
    ("PUT", "/snapshots/{}"): "evs:snapshots:update",
    ("DELETE", "/snapshots/{}"): "evs:snapshots:delete",
    ("POST", "/snapshots/{}/action"): "evs:snapshots:update",
    ("GET", "/snapshots/{}/metadata"): "evs:snapshots:get",
    ("POST", "/snapshots/{}/metadata"): "evs:snapshots:update",
    ("PUT", "/snapshots/{}/metadata"): "evs:snapshots:update",
    ("GET", "/snapshots/{}/metadata/{}"): "evs:snapshots:get",
    ("PUT", "/snapshots/{}/metadata/{}"): "evs:snapshots:update",
    ("DELETE", "/snapshots/{}/metadata/{}"): "evs:snapshots:update",
    ("POST", "/os-vendor-snapshots/{}/rollback"): "evs:snapshots:rollback",
    ("POST", "/os-volume-transfer"): "evs:transfers:create",
    ("GET", "/os-volume-transfer"): "evs:transfers:list",
    ("GET", "/os-volume-transfer/detail"): "evs:transfers:list",
    ("GET", "/os-volume-transfer/{}"): "evs:transfers:get",
    ("POST", "/os-volume-transfer/{}/accept"): "evs:transfers:accept",
    ("DELETE", "/os-volume-transfer/{}"): "evs:transfers:delete",
    ("GET", "/types"): "evs:types:get",
    ("GET", "/types/{}"): "evs:types:get",
    ("GET", "/os-quota-sets/{}"): "evs:quotas:get",
    ("GET", "/limits"): "evs:quotas:get",
    ("GET", "/os-availability-zone"): None,
    ("GET", "/extensions"): None,
}
"""Cinder's calls, which EVS has under ``/v2`` and ``/v3`` alike."""

ACTIONS: Final[Mapping[Call, str | None]] = {
    **_NATIVE,
    **{(method, version + path): action for (method, path), action in _CINDER.items() for version in ("/v2", "/v3")},
}
"""The action of each call; None where any role will do."""


@cache
def action_of(method: str, path_template: str) -> str | None:
    """
    Return the action of a route, such as GET ``/v2/{project_id}/types``; None where any role will do.

    Raises:
        KeyError: The route has no row in `ACTIONS`: it is refused to all, as nobody has said who may call it.
    """
    version, _, path = path_template.partition("/{project_id}")
    return ACTIONS[method, version + re.sub(r"{\w+}", "{}", path)]
