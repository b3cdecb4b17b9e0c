"""
Manifests: what makes trees into snapshots, and snapshots into groups.

They are JSON with a version, for people and programs that find the repository alone on a disk. Each carries a keyed
digest of its own canonical form: keys sorted, no spaces, the digest left out.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, TypeVar

from onecut.repository.errors import Damaged
from onecut.repository.keys import ProjectKeys, digest
from onecut.repository.page import Ref
from onecut.repository.tree import Tree

VERSION: Final = 1
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

M = TypeVar("M", bound="SnapshotManifest | GroupManifest")


@dataclass(frozen=True, order=True)
class Chain:
    """The snapshots that may build upon each other: those of one volume since its last full beginning."""

    project_id: str
    volume_id: str
    chain_id: str

    def __post_init__(self) -> None:
        for part in (self.project_id, self.volume_id, self.chain_id):
            checked_id(part)

    @property
    def path(self) -> str:
        """The folder that the chain has below `snapshots/`, `leases/` and `deletions/`."""
        return f"{self.project_id}/{self.volume_id}/{self.chain_id}"


@dataclass(frozen=True)
class Lineage:
    """A snapshot's place among the others of its chain."""

    base: str | None
    """The snapshot it was archived upon; None for one that was archived from nothing."""
    ancestors: Sequence[str] = ()
    """The base, its base and so on, those included that have been deleted: the dead keep their places."""


@dataclass(frozen=True)
class SnapshotManifest:
    """One archived snapshot."""

    chain: Chain
    snapshot_id: str
    run_id: str
    """The archive run that wrote it, 32 hexadecimal digits."""
    name: str
    group_id: str | None
    size_bytes: int
    chunk_bytes: int
    root: str
    """Identity of the disk's content and size, in hexadecimal digits. Equal content has an equal root."""
    blocks: Ref | None
    """The tree from chunk numbers to chunks; None for a disk of zeros."""
    shares: Ref | None
    """The tree of chunks that several chunk numbers refer to; None where there are none."""
    lineage: Lineage
    cut_at: str
    """The instant of the cut, ISO 8601 in UTC."""
    archived_at: str
    pause_ms: float | None
    incremental: bool
    """Whether something was taken over from the base without being read."""
    added_bytes: int
    """Bytes of the objects that the run stored: chunks and pages."""
    added_chunks: int
    added_pages: int
    read_bytes: int
    """Bytes that the run read from the disk."""
    digest: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Whatever the archiver wants to keep beside it; not looked at here."""

    @property
    def chunk_count(self) -> int:
        """How many chunks the disk spans."""
        return -(-self.size_bytes // self.chunk_bytes)

    @property
    def block_tree(self) -> Tree:
        """The tree from chunk numbers to chunks."""
        return Tree.over(self.chunk_count, self.blocks)

    @property
    def share_tree(self) -> Tree:
        """The tree of chunks that several chunk numbers refer to."""
        return Tree.over(1 << 64, self.shares)

    @property
    def path(self) -> str:
        """The manifest's name in the store."""
        return snapshot_path(self.chain, self.snapshot_id, self.run_id)


@dataclass(frozen=True)
class GroupMember:
    """What a group binds of one of its members."""

    volume_id: str
    chain_id: str
    snapshot_id: str
    root: str
    size_bytes: int
    pause_ms: float | None


@dataclass(frozen=True)
class GroupManifest:
    """One cut across many disks: the members' roots, bound together with the instant."""

    project_id: str
    group_id: str
    name: str
    cut_id: str
    cut_at: str
    prepare_ms: float | None
    pause_ms: float | None
    consistency: str
    """What was reached: `crash` when all members show one instant."""
    members: Sequence[GroupMember]
    digest: str = ""

    @property
    def path(self) -> str:
        """The manifest's name in the store."""
        return group_path(self.project_id, self.group_id)


def checked_id(text: str) -> str:
    """Return *text* if it can be a part of an object's name; raises `ValueError`."""
    if not _ID.fullmatch(text):
        raise ValueError(f"{text!r} can't be an id: it must be 1 to 64 letters, digits, - and _")
    return text


def snapshot_path(chain: Chain, snapshot_id: str, run_id: str) -> str:
    """Return the name of a snapshot's manifest."""
    return f"snapshots/{chain.path}/{checked_id(snapshot_id)}.{checked_id(run_id)}.json"


def group_path(project_id: str, group_id: str) -> str:
    """Return the name of a group's manifest."""
    return f"groups/{checked_id(project_id)}/{checked_id(group_id)}.json"


def signed(manifest: M, keys: ProjectKeys) -> M:
    """Return the manifest with its digest."""
    return replace(manifest, digest=_digest(to_json(manifest), keys))


def to_bytes(manifest: SnapshotManifest | GroupManifest) -> bytes:
    """Return the manifest's object."""
    return json.dumps(to_json(manifest), indent=1, sort_keys=True).encode() + b"\n"


def to_json(manifest: SnapshotManifest | GroupManifest) -> dict[str, Any]:
    """Return the manifest as JSON values."""
    kind = "snapshot" if isinstance(manifest, SnapshotManifest) else "group"
    return {"version": VERSION, "kind": kind, **_plain(asdict(manifest))}


def root_digest(keys: ProjectKeys, size_bytes: int, chunk_bytes: int, blocks: Ref | None) -> str:
    """Return the identity of a disk's content and size."""
    lengths = size_bytes.to_bytes(8, "little") + chunk_bytes.to_bytes(4, "little")
    return digest(keys.root, lengths, blocks.digest if blocks else b"").hex()


def read_snapshot(path: str, data: bytes, keys: ProjectKeys) -> SnapshotManifest:
    """
    Read a snapshot's manifest from its object.

    Raises:
        Damaged: It is no such manifest, or not the one that was written.
    """
    plain = _checked(path, data, keys, "snapshot")
    try:
        plain["chain"] = Chain(**plain["chain"])
        plain["lineage"] = Lineage(plain["lineage"]["base"], tuple(plain["lineage"]["ancestors"]))
        plain["blocks"], plain["shares"] = _ref(plain["blocks"]), _ref(plain["shares"])
        manifest = SnapshotManifest(**plain)
    except (TypeError, KeyError, ValueError) as error:
        raise Damaged(path, f"it is no manifest of version {VERSION}: {error}") from error
    if manifest.path != path:
        raise Damaged(path, f"it is the manifest of {manifest.path}")
    if manifest.root != root_digest(keys, manifest.size_bytes, manifest.chunk_bytes, manifest.blocks):
        raise Damaged(path, "its root is not that of its tree")
    return manifest


def read_group(path: str, data: bytes, keys: ProjectKeys) -> GroupManifest:
    """
    Read a group's manifest from its object.

    Raises:
        Damaged: It is no such manifest, or not the one that was written.
    """
    plain = _checked(path, data, keys, "group")
    try:
        plain["members"] = tuple(GroupMember(**member) for member in plain["members"])
        manifest = GroupManifest(**plain)
    except (TypeError, KeyError, ValueError) as error:
        raise Damaged(path, f"it is no manifest of version {VERSION}: {error}") from error
    if manifest.path != path:
        raise Damaged(path, f"it is the manifest of {manifest.path}")
    return manifest


def _checked(path: str, data: bytes, keys: ProjectKeys, kind: str) -> dict[str, Any]:
    try:
        plain = json.loads(data)
    except ValueError as error:
        raise Damaged(path, "it is not JSON") from error
    if not isinstance(plain, dict) or plain.get("version") != VERSION or plain.get("kind") != kind:
        raise Damaged(path, f"it is no {kind} manifest of version {VERSION}")
    if _digest(plain, keys) != plain.get("digest"):
        raise Damaged(path, "it does not have the digest that it names")
    return {key: value for key, value in plain.items() if key not in {"version", "kind"}}


def _digest(plain: Mapping[str, Any], keys: ProjectKeys) -> str:
    unsigned = {key: value for key, value in plain.items() if key != "digest"}
    return digest(keys.manifest, json.dumps(unsigned, separators=(",", ":"), sort_keys=True).encode()).hex()


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Turn bytes into hexadecimal digits, all the way down; references are named by their fields."""
    match value:
        case Ref():
            return _plain(value._asdict())
        case bytes():
            return value.hex()
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value


def _ref(plain: dict[str, Any] | None) -> Ref | None:
    if plain is None:
        return None
    return Ref(bytes.fromhex(plain["digest"]), bytes.fromhex(plain["run"]), plain["ordinal"], plain["entries"])
