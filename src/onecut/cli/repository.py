"""``onecut repository``: read a repository where it lies, without service, database or sign-in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from onecut.cli.output import json_option, show, show_one
from onecut.repository.address import open_store
from onecut.repository.collector import GRACE, execute, plan_collection
from onecut.repository.errors import Damaged, NoSuchSnapshot
from onecut.repository.export import export_qcow2, export_raw
from onecut.repository.image import Image
from onecut.repository.manifest import GroupManifest, SnapshotManifest, to_json
from onecut.repository.repository import Repository
from onecut.repository.verify import Finding, Verification, verify
from onecut.units import size_text

COLUMNS = ("snapshot", "name", "cut_at", "size", "added", "kind", "volume", "project", "group")
FINDING_COLUMNS = ("kind", "name", "path", "reason")

address_option = click.option(
    "--repository",
    "address",
    envvar="ONECUT_REPOSITORY",
    required=True,
    metavar="ADDRESS",
    help="A folder, or s3://BUCKET/PREFIX?endpoint=URL&region=NAME.",
)


@click.group("repository")
def repository() -> None:
    """Archived snapshots: list, prove and export them, from the repository alone."""


@repository.command("ls")
@address_option
@json_option
def ls(*, address: str, as_json: bool) -> None:
    """List all snapshots, chain by chain, in the order of their cuts; ends with status 1 if one can't be read."""
    opened = Repository.open(open_store(address))
    chains = [opened.manifests_and_damages(chain) for chain in sorted(opened.chains())]
    manifests = [manifest for found, _ in chains for manifest in found]
    damages = [damage for _, found in chains for damage in found]
    answer = {
        "snapshots": [to_json(manifest) for manifest in manifests],
        "damaged": [{"path": damage.path, "reason": damage.reason} for damage in damages],
    }
    rows = [*map(_row, manifests), *map(_damaged_row, damages)]
    show(answer, rows, COLUMNS, as_json=as_json)
    if damages:
        raise click.exceptions.Exit(1)


@repository.command("verify")
@address_option
@click.option(
    "--sample", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Share of chunks to read."
)
@click.option(
    "--snapshot", "snapshots", multiple=True, metavar="ID", help="Only this one; may be given several times."
)
@click.option("--group", "groups", multiple=True, metavar="ID", help="Only this group and its members; as above.")
@json_option
def verify_(
    *, address: str, sample: float, snapshots: tuple[str, ...], groups: tuple[str, ...], as_json: bool
) -> None:
    """
    Read everything and name what is damaged; ends with status 1 if anything is.

    All pages and manifests are read; of the chunks, all or a sample.
    """
    opened = Repository.open(open_store(address))
    chosen = [_group(opened, group_id) for group_id in groups]
    wanted = {*snapshots, *(member.snapshot_id for group in chosen for member in group.members)}
    with _spinning("chunks read") as progress:
        report = verify(
            opened,
            sample=sample,
            only=(lambda manifest: manifest.snapshot_id in wanted) if wanted or chosen else (lambda _: True),
            progress=progress,
        )
    if wanted or chosen:
        report.findings = [finding for finding in report.findings if finding.name in {*wanted, *groups}]
    report.findings = [finding for finding in report.findings if not _was_deleted(opened, finding)]
    _show_report(report, as_json=as_json)


@repository.command("export")
@address_option
@click.argument("snapshot_id", metavar="SNAPSHOT")
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["raw", "qcow2"]),
    default="raw",
    show_default=True,
    metavar="FORMAT",
    help="raw or qcow2.",
)
@json_option
def export(*, address: str, snapshot_id: str, target: Path, form: str, as_json: bool) -> None:
    """Write the disk of SNAPSHOT to the file TARGET."""
    opened = Repository.open(open_store(address))
    manifest = opened.find(snapshot_id)
    image = Image(opened, manifest)
    if form == "raw":
        with _bar(f"exporting {snapshot_id}") as progress:
            export_raw(image, target, progress)
    else:
        export_qcow2(image, target)
    answer = {"snapshot_id": snapshot_id, "target": str(target), "format": form, "size_bytes": image.size_bytes}
    fields = {"written": str(target), "format": form, "size": size_text(image.size_bytes), "root": manifest.root}
    show_one(answer | {"root": manifest.root}, fields, as_json=as_json)


@repository.command("collect")
@address_option
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(min=0),
    default=GRACE.total_seconds(),
    show_default=True,
    metavar="SECONDS",
    help="What was not renewed for so long belongs to nobody. A service that is archiving renews every minute.",
)
@click.option("--thorough", is_flag=True, help="Also look for objects that nothing leads to; reads all trees.")
@json_option
def collect(*, address: str, dry_run: bool, grace_s: float, thorough: bool, as_json: bool) -> None:
    """Free what dead archives, interrupted deletions and gone readers have left."""
    opened = Repository.open(open_store(address))
    plan = plan_collection(opened, grace=timedelta(seconds=grace_s), thorough=thorough)
    if not dry_run:
        execute(opened, plan)
    freed_bytes = plan.run_bytes + sum(info.size_bytes for info in plan.unreferenced)
    answer = {
        "done": not dry_run,
        "dead_archives": [lease.snapshot_id for lease in plan.runs],
        "objects": plan.run_objects + len(plan.unreferenced),
        "bytes": freed_bytes,
        "dead_readers": [lease.holds for lease in plan.readers],
        "interrupted_deletions": [manifest.snapshot_id for manifest in plan.deletions],
        "old_marks": len(plan.markers),
        "unreadable": [damage.path for damage in plan.unreadable],
    }
    shown = answer | {"bytes": size_text(freed_bytes)}
    show_one(answer, {name: value or "-" for name, value in shown.items()}, as_json=as_json)


def _row(manifest: SnapshotManifest) -> dict[str, str | None]:
    return {
        "snapshot": manifest.snapshot_id,
        "name": manifest.name,
        "cut_at": manifest.cut_at,
        "size": size_text(manifest.size_bytes),
        "added": size_text(manifest.added_bytes),
        "kind": "incremental" if manifest.incremental else "full",
        "volume": manifest.chain.volume_id,
        "project": manifest.chain.project_id,
        "group": manifest.group_id,
    }


def _damaged_row(damage: Damaged) -> dict[str, str | None]:
    """Tell of a snapshot whose manifest can't be read what its name tells."""
    _, project_id, volume_id, _, name = damage.path.split("/")
    return {"snapshot": name.partition(".")[0], "kind": "damaged", "volume": volume_id, "project": project_id}


def _group(opened: Repository, group_id: str) -> GroupManifest:
    for group in opened.groups(group_id):
        return group
    raise NoSuchSnapshot(f"there is no group {group_id}")


def _was_deleted(opened: Repository, finding: Finding) -> bool:
    """Whether what seemed damaged was being deleted: its manifest goes first."""
    try:
        if finding.kind == "snapshot":
            opened.find(finding.name)
        elif finding.kind == "group":
            _group(opened, finding.name)
    except NoSuchSnapshot:
        return True
    except Damaged:
        pass
    return False


def _show_report(report: Verification, *, as_json: bool) -> None:
    findings = report.findings
    rows = [asdict(finding) for finding in findings]
    answer = {
        "snapshots": report.snapshots,
        "groups": report.groups,
        "pages": report.pages,
        "chunks": report.chunks,
        "damaged": report.damaged,
        "findings": rows,
    }
    if as_json or not findings:
        fields = {"snapshots": report.snapshots, "groups": report.groups, "chunks read": report.chunks}
        show_one(answer, fields | {"damaged": len(report.damaged)}, as_json=as_json)
    else:
        show(answer, rows, FINDING_COLUMNS, as_json=False)
    if findings:
        raise click.exceptions.Exit(1)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal, and nothing elsewhere."""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _spinning(what: str) -> Iterator[Callable[[int], None]]:
    """Show a running count on a terminal, and nothing elsewhere."""
    console = Console(stderr=True)
    columns = TextColumn("{task.completed} {task.description}"), BarColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done: progress.update(task, completed=done)
