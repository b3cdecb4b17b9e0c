"""Defaults of settings are those of the rooms, which may not import each other's."""

from pathlib import Path

import pytest

from onecut.config import Settings
from onecut.engine.qemu import HYDRATE_BYTES_PER_S, MERGE_BYTES_PER_S
from onecut.jobs.archiver import PATIENCE, ArchiveLimits
from onecut.repository.collector import GRACE


def test_a_setting_begins_as_what_it_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a room used by itself, as the benchmarks do, would be another than the service's."""
    monkeypatch.chdir(tmp_path)
    settings, limits = Settings(), ArchiveLimits()
    assert settings.merge_bytes_per_s == MERGE_BYTES_PER_S
    assert settings.hydrate_bytes_per_s == HYDRATE_BYTES_PER_S
    assert settings.archives == limits.parallel
    assert settings.archive_bytes_per_s == limits.bytes_per_s
    assert settings.archive_busy_bytes_per_s == limits.busy_bytes_per_s
    assert settings.archive_sampled_chunks == limits.sampled_chunks
    assert settings.repository_patience_s == PATIENCE.total_s == limits.patience.total_s
    assert settings.collect_grace_s == GRACE.total_seconds()
