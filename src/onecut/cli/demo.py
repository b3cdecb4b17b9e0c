"""``onecut demo``: the story told in a terminal, with a service of its own that is gone afterwards."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console

from onecut.cli.client import Api
from onecut.cli.throwaway import throwaway_service
from onecut.cli.volumes import attachments
from onecut.cli.witness import judge
from onecut.nbd.client import NbdClient
from onecut.witness import run as runs
from onecut.witness.verify import Verdict

WRITING_S = 3.0

console = Console(highlight=False)


@click.command("demo")
def demo() -> None:
    """Tell the story: two disks that are written to, one cut across them, an accident, and the way back."""
    with throwaway_service() as api:
        Story(api).tell()


class Story:
    """A database server with its data on one disk and its log on another."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def tell(self) -> None:
        """Tell it from beginning to end."""
        _say("A server with two disks: a database keeps its data on one and its log on the other.")
        server_id = self._make_server()
        volume_ids = [self._make_volume(name, server_id) for name in ("data", "log")]
        uris = [attachments(self._api, volume_id)[0]["uri"] for volume_id in volume_ids]

        _say("Somebody writes: a stamp to data, then one to log, each acknowledged before the next. Never stopping.")
        with _writing(uris):
            _say("Now one cut across both, while the writing goes on.")
            group_id, cut = self._cut(volume_ids, "together")
            _note(f"taken at {cut['taken_at']}; writes waited {cut['pause_ms']:.1f} ms at most")
            _say("And, for comparison, what others do: one disk, then the other.")
            apart = [self._cut([volume_id], f"apart-{number}")[0] for number, volume_id in enumerate(volume_ids)]

        _say("Does each show one instant? The witness reads the stamps.")
        _note(f"one cut:        {_verdict(judge(self._api, [group_id]))}")
        _note(f"one by one:     {_verdict(judge(self._api, apart))}")

        _say("An accident: both disks are overwritten from the first byte on.")
        for uri in uris:
            with NbdClient.connect(uri) as disk:
                disk.zero(0, disk.size_bytes)

        _say("Back to the cut: detach, roll back all disks or none, attach again.")
        began = time.perf_counter()
        self._roll_back(group_id, volume_ids, server_id)
        _note(f"done in {(time.perf_counter() - began) * 1000:.0f} ms; nothing was copied")
        again, _ = self._cut(volume_ids, "again")
        _note(f"what the disks hold now: {_verdict(judge(self._api, [again]))}")

    def _make_server(self) -> str:
        answer = self._api.call("POST", "/v1/{p}/cloudservers", body={"server": {"name": "db1"}})
        self._api.wait(answer["job_id"], "creating the server")
        server_id: str = answer["serverIds"][0]
        return server_id

    def _make_volume(self, name: str, server_id: str) -> str:
        wanted = {"name": name, "size": 10, "volume_type": "SSD", "availability_zone": "az1"}
        answer = self._api.call("POST", "/v2.1/{p}/cloudvolumes", body={"volume": wanted, "server_id": server_id})
        self._api.wait(answer["job_id"], f"creating {name}")
        volume_id: str = answer["volume_ids"][0]
        return volume_id

    def _cut(self, volume_ids: list[str], name: str) -> tuple[str, dict[str, Any]]:
        wanted = {"volume_ids": volume_ids, "name": name, "instant_access": True}
        answer = self._api.call("POST", "/v5/{p}/snapshot-groups", body={"snapshot_group": wanted})
        job = self._api.wait(answer["job_id"], "cutting")
        return answer["snapshot_group_id"], job["entities"]["cut"]

    def _roll_back(self, group_id: str, volume_ids: list[str], server_id: str) -> None:
        server = f"/v1/{{p}}/cloudservers/{server_id}"
        for volume_id in volume_ids:
            self._wait(self._api.call("DELETE", f"{server}/detachvolume/{volume_id}"))
        body: dict[str, Any] = {"rollback": {}}
        self._wait(self._api.call("POST", f"/v5/{{p}}/snapshot-groups/{group_id}/rollback", body=body))
        for volume_id in volume_ids:
            body = {"volumeAttachment": {"volumeId": volume_id}}
            self._wait(self._api.call("POST", f"{server}/attachvolume", body=body))

    def _wait(self, answer: dict[str, Any]) -> None:
        self._api.wait(answer["job_id"], "working")


@contextmanager
def _writing(uris: list[str]) -> Iterator[None]:
    """Write stamps in another thread until the block ends."""
    stop = threading.Event()
    writer = threading.Thread(target=lambda: runs.run(uris, duration_s=60.0, stop=stop))
    writer.start()
    try:
        time.sleep(WRITING_S)
        yield
    finally:
        stop.set()
        writer.join()


def _verdict(verdict: Verdict) -> str:
    sentences = [violation.sentence for violation in verdict.violations]
    return f"[bold]{verdict.outcome}[/bold]" + (f" - {sentences[0]}" if sentences else "")


def _say(sentence: str) -> None:
    console.print(f"\n[bold cyan]{sentence}[/bold cyan]")


def _note(sentence: str) -> None:
    console.print(f"  {sentence}")
