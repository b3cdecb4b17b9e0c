"""What a start puts right, and what it refuses."""

import stat
from pathlib import Path

import pytest
from folders import short_folder
from running import memory_engine, running_site, service_thread

from onecut.cli.throwaway import end_daemon
from onecut.config import Settings
from onecut.errors import Misconfigured
from onecut.nbd.client import NbdClient
from onecut.wiring import Onecut, qemu_engine


def test_uris_follow_the_sockets(tmp_path: Path) -> None:
    """When the folder of the sockets has moved, attachments carry URIs that open."""
    with short_folder() as first, short_folder() as second:
        try:
            with running_site(tmp_path, make_engine=qemu_engine, run=first / "run") as site:
                server = site.call("POST", "/v1/{p}/cloudservers", 200, json={"server": {"name": "db1"}})
                volume = {"size": 10, "volume_type": "SSD", "availability_zone": "az1"}
                body = {"volume": volume, "server_id": server["serverIds"][0]}
                made = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json=body)
                site.done(made)
            end_daemon(first / "run" / "qsd.pid")

            with running_site(tmp_path, make_engine=qemu_engine, run=second / "run") as site:
                shown = site.call("GET", f"/v2/{{p}}/cloudvolumes/{made['volume_ids'][0]}", 200)["volume"]

                assert str(second) in shown["attachments"][0]["uri"]
                with NbdClient.connect(shown["attachments"][0]["uri"]) as disk:
                    assert disk.size_bytes == 10 << 30
        finally:
            end_daemon(second / "run" / "qsd.pid")


def test_the_credentials_name_the_present_endpoint(tmp_path: Path) -> None:
    """A restart on another port rewrites the endpoint, keeps the rest, and lets only the owner read it."""
    with running_site(tmp_path) as site:
        before = site.credentials
    with running_site(tmp_path) as site:
        after = site.credentials
        endpoint = site.onecut.endpoint

    assert after == before | {"endpoint": endpoint}
    assert stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode) == 0o600


def test_a_driver_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """A database whose driver is missing is an operator's fault with one sentence."""
    settings = Settings(data=tmp_path, listen="127.0.0.1:0", database="postgresql+pg8000://onecut@/onecut")

    with (
        pytest.raises(Misconfigured, match="pg8000 of the database is not installed"),
        service_thread(Onecut(settings, make_engine=memory_engine)),
    ):
        pass


def test_a_second_service_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    """Two services on one data folder would undo each other's work."""
    second = Onecut(Settings(data=tmp_path, listen="127.0.0.1:0"), make_engine=memory_engine)

    with running_site(tmp_path), pytest.raises(Misconfigured, match="another service uses"), service_thread(second):
        pass


def test_a_repository_that_is_away_is_not_made_anew(tmp_path: Path) -> None:
    """Once a snapshot is archived an empty folder in the repository's place, as of an unmounted disk, is refused."""
    with running_site(tmp_path) as site:
        volume = {"size": 10, "volume_type": "SSD", "availability_zone": "az1"}
        made = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json={"volume": volume})
        site.done(made)
        wanted = {"snapshot": {"volume_id": made["volume_ids"][0]}}
        site.done(site.call("POST", "/v5/{p}/snapshots", 202, json=wanted))
    (tmp_path / "repository").rename(tmp_path / "away")

    settings = Settings(data=tmp_path, listen="127.0.0.1:0")
    with (
        pytest.raises(Misconfigured, match="this is not a repository"),
        service_thread(Onecut(settings, make_engine=memory_engine)),
    ):
        pass

    assert not list((tmp_path / "repository").glob("*.json"))
