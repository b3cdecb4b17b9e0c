"""Limits that a real client of a real disk feels."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from orders import new_server, new_volumes, take_group, uris, volume
from running import Site, wait_until

from onecut.nbd.client import NbdClient
from onecut.units import KiB


class Writer:
    """A client that writes 4 KiB again and again, and counts."""

    def __init__(self, uri: str) -> None:
        self.count = 0
        self._uri = uri
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def writing(self) -> Iterator["Writer"]:
        """Write until the block ends."""
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join()

    def seconds_for(self, writes: int) -> float:
        """Wait for so many writes, and say how long they took."""
        began, wanted = time.monotonic(), self.count + writes
        wait_until(lambda: self.count >= wanted, f"{writes} writes")
        return time.monotonic() - began

    def _run(self) -> None:
        with NbdClient.connect(self._uri) as disk:
            while not self._over.is_set():
                disk.write(b"x" * 4 * KiB, 0)
                self.count += 1


def test_a_writer_is_slowed_down_and_let_go_without_losing_its_connection(real_site: Site) -> None:
    """
    Its disk becomes one of 100 IOPS, then one of 1,000, then one without a limit, and is cut while it is slow.

    The type is changed as a tenant does it, under one client that never reconnects.
    """
    [volume_id] = new_volumes(real_site, 1, new_server(real_site))
    [uri] = uris(real_site, [volume_id])
    retype, qos = f"/v2/{{p}}/volumes/{volume_id}/retype", f"/v5/{{p}}/cloudvolumes/{volume_id}/qos"
    with Writer(uri).writing() as writer:
        real_site.done(real_site.call("POST", retype, 202, json={"os-retype": {"new_type": "ESSD2", "iops": 100}}))
        assert writer.seconds_for(200) > 1.5

        take_group(real_site, [volume_id])
        assert writer.seconds_for(200) > 1.5

        real_site.done(real_site.call("PUT", qos, 202, json={"qos_modify": {"iops": 1000}}))
        assert writer.seconds_for(2000) > 1.5

        real_site.done(real_site.call("POST", retype, 202, json={"os-retype": {"new_type": "SSD"}}))
        writer.seconds_for(200)
    assert volume(real_site, volume_id)["status"] == "in-use"
