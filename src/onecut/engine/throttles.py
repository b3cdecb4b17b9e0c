"""
Limits: a throttle filter between a volume's exports and its top layer.

A filter is there for as long as its volume is exported, with limits or without: a live export can't be given one, nor
lose it. Without limits it costs 0.3 µs of the daemon's time for a request, a hundredth of what a write of 4 KiB takes
(measured with 7.2). Whatever takes the old top's place takes it below the filter, so every cut is made under it.

Requests that wait never hold up a cut: before it stops all I/O the daemon lets them through, and charges them to the
time after it (QEMU, block/throttle.c `throttle_drain_begin`, block/throttle-groups.c).
"""

import hashlib
from collections.abc import Collection
from typing import Any, Final

import structlog

from onecut.engine.monitor import DaemonRefused, Monitor
from onecut.engine.port import Limits

PREFIX: Final = "lim-"
"""Of the names of filters and of the groups that hold their limits; a filter and its group have the same name."""

_DIGEST_BYTES: Final = 12
"""A volume's id is too long for a node's name, which has at most 31 characters (QEMU, block/block_int-common.h)."""

_GROUP: Final = "throttle-group"

log = structlog.get_logger(__name__)


class Throttles:
    """The daemon's throttle filters, one for each exported volume."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    async def put(self, volume_id: str, top: str, limits: Limits) -> str:
        """Put a volume's filter over the node *top*, unless it has one, and return the filter's node."""
        name = filter_name(volume_id)
        try:
            await self._monitor.execute("object-add", {"qom-type": _GROUP, "id": name, "limits": _qmp_limits(limits)})
        except DaemonRefused:
            if not await self.tune(volume_id, limits):
                raise
            return name
        try:
            # Without "unmap" discards would end here.
            arguments = {"driver": "throttle", "node-name": name, _GROUP: name, "file": top, "discard": "unmap"}
            await self._monitor.execute("blockdev-add", arguments)
        except DaemonRefused:
            await self._monitor.execute("object-del", {"id": name})
            raise
        return name

    async def tune(self, volume_id: str, limits: Limits) -> bool:
        """
        Change a volume's limits, and say whether it has a filter that they are in force by.

        A request that waits already goes on when it would have by the old limits.
        """
        path = f"/objects/{filter_name(volume_id)}"
        try:
            await self._monitor.execute("qom-set", {"path": path, "property": "limits", "value": _qmp_limits(limits)})
        except DaemonRefused:
            return False
        return True

    async def remove(self, volume_id: str) -> None:
        """Take a volume's filter away, unless an export uses it; one that is not there is no error."""
        await self._remove(filter_name(volume_id))

    async def sweep(self, used: Collection[str]) -> None:
        """Take away the filters whose nodes are not *used* by any export."""
        try:
            objects = await self._monitor.execute("qom-list", {"path": "/objects"})
        except DaemonRefused:  # the path is made with the first object
            return
        for found in objects:
            if found["type"] == f"child<{_GROUP}>" and found["name"].startswith(PREFIX) and found["name"] not in used:
                await self._remove(found["name"])

    async def _remove(self, name: str) -> None:
        for command, arguments in (("blockdev-del", {"node-name": name}), ("object-del", {"id": name})):
            try:
                await self._monitor.execute(command, arguments)
            except DaemonRefused as refused:
                log.info("throttle_kept", name=name, problem=str(refused))


def filter_name(volume_id: str) -> str:
    """Return the name of a volume's filter and of its group."""
    return PREFIX + hashlib.blake2s(volume_id.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _qmp_limits(limits: Limits) -> dict[str, Any]:
    """Write limits as a ``ThrottleLimits`` of QMP, where 0 is none; a member left out would stay as it was."""
    return {"iops-total": limits.iops or 0, "bps-total": limits.bytes_per_s or 0}
