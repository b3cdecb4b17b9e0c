"""
Prove that snapshots can be restored, and name those that can't.

What several snapshots share is read once, and its damage is held against each of them. When a sample has found
something, all are walked through once more: others may have that chunk too, and have passed it over.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from random import SystemRandom

from onecut.repository.errors import Damaged, NoSuchObject, NoSuchSnapshot
from onecut.repository.manifest import Chain, GroupManifest, SnapshotManifest, read_group
from onecut.repository.mark import Marks
from onecut.repository.page import Entry, Leaf, Ref
from onecut.repository.repository import Reader, Repository, chunk_path


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a snapshot or a group."""

    kind: str
    """`snapshot`, `group` or `manifest`."""
    name: str
    """The snapshot's or group's id; the object's name for a manifest that can't be read."""
    path: str
    """The object that is at fault."""
    reason: str


@dataclass
class Verification:
    """What was looked at, and what was found."""

    snapshots: int = 0
    groups: int = 0
    pages: int = 0
    chunks: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def damaged(self) -> list[str]:
        """The ids of damaged snapshots, each once."""
        return sorted({finding.name for finding in self.findings if finding.kind == "snapshot"})


def verify(
    repository: Repository,
    *,
    sample: float = 1.0,
    only: Callable[[SnapshotManifest], bool] = lambda manifest: True,  # noqa: ARG005 - the default takes all
    known: Iterable[Damaged] = (),
    progress: Callable[[int], None] = lambda chunks: None,  # noqa: ARG005 - the default ignores it
    workers: int = 4,
) -> Verification:
    """
    Read all manifests and pages, and the chunks, or of these a random *sample* from 0 to 1.

    *only* chooses snapshots; *known* is damage that was met before, and is held against whoever has it without being
    read again; *progress* is called with the number of chunks read so far.
    """
    report = Verification()
    with ThreadPoolExecutor(workers, "verify") as pool:
        check = _Check(repository, sample, progress, pool, known)
        _walk(repository, only, check, report)
        if sample < 1 and check.bad:
            again = Verification()
            _walk(repository, only, _Check(repository, 0, progress, pool, check.bad.values()), again)
            report.findings = again.findings
        report.pages, report.chunks = check.pages, check.chunks
    for info in repository.store.list("groups"):
        _verify_group(repository, info.path, report)
    return report


def prove_group(repository: Repository, group: GroupManifest) -> list[Finding]:
    """Return what contradicts a group's manifest: a member that is gone, or has not the root that was bound."""
    findings = []
    for member in group.members:
        try:
            chain = Chain(group.project_id, member.volume_id, member.chain_id)
            manifest = repository.snapshot(chain, member.snapshot_id)
        except (Damaged, NoSuchSnapshot) as error:
            findings.append(Finding("group", group.group_id, group.path, str(error)))
            continue
        if (manifest.root, manifest.size_bytes) != (member.root, member.size_bytes):
            reason = f"snapshot {member.snapshot_id} has another root than the group binds"
            findings.append(Finding("group", group.group_id, group.path, reason))
    return findings


def _verify_group(repository: Repository, path: str, report: Verification) -> None:
    report.groups += 1
    try:
        group = read_group(path, repository.store.get(path), repository.keys(path.split("/")[1]))
    except NoSuchObject:  # it was deleted meanwhile
        return
    except Damaged as damage:
        report.findings.append(Finding("manifest", path, damage.path, damage.reason))
        return
    report.findings.extend(prove_group(repository, group))


def _walk(
    repository: Repository, only: Callable[[SnapshotManifest], bool], check: "_Check", report: Verification
) -> None:
    for path in [info.path for info in repository.store.list("snapshots")]:
        snapshot_id = path.rpartition("/")[2].partition(".")[0]
        try:
            manifest = repository.read_manifest(path)
        except Damaged as damage:
            report.findings.append(_finding(snapshot_id, damage))
            continue
        if manifest is not None and only(manifest):
            report.snapshots += 1
            report.findings.extend(_finding(snapshot_id, damage) for damage in check.damages(manifest))


def _finding(snapshot_id: str, damage: Damaged) -> Finding:
    return Finding("snapshot", snapshot_id, damage.path, damage.reason)


class _Check:
    """Reads what snapshots reach, each object once."""

    def __init__(
        self,
        repository: Repository,
        sample: float,
        progress: Callable[[int], None],
        pool: ThreadPoolExecutor,
        known: Iterable[Damaged],
    ) -> None:
        self._repository, self._sample, self._progress, self._pool = repository, sample, progress, pool
        self.pages = self.chunks = 0
        self._sound = Marks()
        """Pages beneath which nothing damaged was met, and sound chunks."""
        self.bad = {damage.path: damage for damage in known}
        """Damaged chunks, by their names."""

    def damages(self, manifest: SnapshotManifest) -> list[Damaged]:
        """Return what is damaged of a snapshot."""
        reader = self._repository.reader(manifest.chain.project_id)
        return self._page(reader, manifest.blocks, chunks=True) + self._page(reader, manifest.shares, chunks=False)

    def _page(self, reader: Reader, ref: Ref | None, *, chunks: bool) -> list[Damaged]:
        if ref is None or self._sound.has("trees", *ref.place):
            return []
        try:
            page = reader.page(ref)
        except Damaged as damage:
            return [damage]
        self.pages += 1
        found: list[Damaged] = []
        if not isinstance(page, Leaf):
            for child in page.children.values():
                found += self._page(reader, child, chunks=chunks)
        elif chunks:
            found = self._chunks(reader, page)
        if not found:
            self._sound.add("trees", *ref.place)
        return found

    def _chunks(self, reader: Reader, page: Leaf) -> list[Damaged]:
        entries = {chunk_path(*entry.place): entry for _, entry in page.items()}
        found = [self.bad[path] for path in entries if path in self.bad]
        wanted = [
            entry
            for path, entry in entries.items()
            if path not in self.bad
            and not self._sound.has("chunks", *entry.place)
            and (self._sample >= 1 or SystemRandom().random() < self._sample)
        ]
        for entry, damage in zip(wanted, self._pool.map(partial(_damage, reader), wanted), strict=True):
            self.chunks += 1
            if damage is None:
                self._sound.add("chunks", *entry.place)
            else:
                self.bad[damage.path] = damage
                found.append(damage)
        self._progress(self.chunks)
        return found


def _damage(reader: Reader, entry: Entry) -> Damaged | None:
    try:
        reader.chunk(entry)
    except Damaged as damage:
        return damage
    return None
