"""
Every setting, with its default, unit and meaning.

A setting comes from its ``ONECUT_`` environment variable, else from ``onecut.toml`` in the working folder (or the
file that ``ONECUT_CONFIG`` names), else from its default. Nested names do not exist: one flat table.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from onecut.units import MiB

Quota: TypeAlias = Annotated[int, Field(ge=-1, le=2**31 - 1)]
"""A limit of every project, as much as the database's column holds; -1 for none."""


class Settings(BaseSettings):
    """The settings of one service."""

    model_config = SettingsConfigDict(env_prefix="ONECUT_", extra="forbid", frozen=True)

    listen: str = Field(default="127.0.0.1:8776", description="HOST:PORT the API listens on.")
    data: Path = Field(
        default=Path("onecut-data"), description="Folder for the database, the layers and the credentials."
    )
    run: Path | None = Field(
        default=None,
        description="Folder for the daemon's sockets; default: `run` in the data folder. Needs a short path.",
    )
    database: str | None = Field(
        default=None, description="SQLAlchemy URL of the database; default: SQLite, `onecut.db` in the data folder."
    )
    endpoint: str | None = Field(
        default=None, description="URL clients use; default: `http://` and what `listen` says."
    )
    region: str = Field(
        default="region-1", description="Region of the first start; also the name of the first project."
    )
    availability_zones: list[str] = Field(
        default=["az1"], min_length=1, description="Names of the availability zones."
    )
    qemu_storage_daemon: str = Field(default="qemu-storage-daemon", description="Program of the `qemu` engine.")
    cut_deadline_s: float = Field(default=10.0, gt=0, description="Seconds a cut may take before it is given up.")
    merge_bytes_per_s: int = Field(
        default=64 * MiB, gt=0, description="Bytes per second at which layers nobody needs are merged."
    )
    hydrate_bytes_per_s: int = Field(
        default=512 * MiB, gt=0, description="Bytes per second at which all restored volumes together are filled."
    )
    qos: Literal["off", "volumes", "types"] = Field(
        default="volumes",
        description="What limits IOPS and throughput: nothing, what was chosen for a volume, or also its type.",
    )
    repository: str | None = Field(
        default=None,
        description="Where snapshots are archived: a folder, or `s3://BUCKET/PREFIX?endpoint=URL&region=NAME`; "
        "default: `repository` in the data folder.",
    )
    repository_patience_s: float = Field(
        default=3600.0, gt=0, description="Seconds a job waits for a repository that is away or full before it fails."
    )
    archives: int = Field(default=4, ge=1, le=64, description="Snapshots archived at the same time.")
    archive_bytes_per_s: int | None = Field(
        default=None, gt=0, description="Bytes per second that archiving reads from each disk; default: no limit."
    )
    archive_busy_bytes_per_s: int = Field(
        default=32 * MiB,
        ge=0,
        description="Bytes per second that all archives read together while clients use their disks; "
        "0 for archives that do not give way.",
    )
    archive_sampled_chunks: int = Field(
        default=32, ge=0, description="Unchanged chunks that an incremental archive reads and compares all the same."
    )
    collect_every_s: float = Field(
        default=21600.0, gt=0, description="Seconds between collections of what nobody owns in the repository."
    )
    collect_grace_s: float = Field(
        default=86400.0, gt=0, description="Seconds after which what a dead archive has left is collected."
    )
    verify_every_s: float = Field(
        default=86400.0, gt=0, description="Seconds between verifications of the repository, and before the first."
    )
    verify_share: float = Field(
        default=0.02, ge=0, le=1, description="Share of the chunks that a verification reads, chosen anew each time."
    )
    quota_volumes: Quota = Field(
        default=10_000, description="Volumes of a project that has no limit of its own; -1 for no limit."
    )
    quota_gigabytes: Quota = Field(
        default=-1, description="GiB of all volumes of a project that has no limit of its own; -1 for no limit."
    )
    quota_per_volume_gigabytes: Quota = Field(
        default=-1, description="GiB of one volume of a project that has no limit of its own; -1 for no limit."
    )
    quota_snapshots: Quota = Field(
        default=100_000, description="Snapshots of a project that has no limit of its own; -1 for no limit."
    )
    workers: int = Field(default=8, ge=1, le=64, description="Jobs carried out at the same time.")
    log_level: str = Field(
        default="info", pattern="^(debug|info|warning|error)$", description="Least level that is logged."
    )

    @field_validator("listen")
    @classmethod
    def _listen_is_host_and_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - the largest TCP port
            raise ValueError(f"must be HOST:PORT with a port from 0 to 65535, not {value!r}")
        return value

    @property
    def host(self) -> str:
        """The address part of `listen`, without the brackets of an IPv6 address."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port part of `listen`; 0 lets the kernel choose."""
        return int(self.listen.rpartition(":")[2])

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line first, then the environment, then the file."""
        file = Path(os.environ.get("ONECUT_CONFIG", "onecut.toml"))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)
