"""Cinder's ``/v2|v3/{project_id}/snapshots``: EVS's legacy snapshots."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, Field

from onecut.api import links
from onecut.api.auth import project_caller
from onecut.api.cinder import Action, CinderPage
from onecut.api.cinder_metadata import router_of
from onecut.api.cloudsnapshots import (
    LegacySnapshotDetail,
    create_legacy_snapshot,
    delete_legacy_snapshot,
    detail,
    roll_back_legacy_snapshot,
    show_legacy_snapshot,
    update_legacy_snapshot,
)
from onecut.api.dependencies import Configured, Reading, Time, Writing
from onecut.api.fields import Text255, absent
from onecut.api.links import Link
from onecut.api.routing import Router
from onecut.service import legacy_snapshots, snapshots
from onecut.service.snapshots import SnapshotFilter

router = Router(tags=["Cinder snapshots"], dependencies=[Depends(project_caller)])


class ListCinderSnapshots(CinderPage):
    """The query of the snapshot lists."""

    name: Text255 | None = None
    status: Text255 | None = None
    volume_id: Text255 | None = None

    def wanted(self) -> SnapshotFilter:
        """Say it in the service's words."""
        return SnapshotFilter(name=self.name, status=self.status, volume_id=self.volume_id)


class ActOnCinderSnapshot(Action):
    """The body of an action on a snapshot."""

    os_force_delete: None = Field(default=None, alias="os-force_delete")


class CinderSnapshots(BaseModel):
    """One page of snapshots."""

    snapshots: list[LegacySnapshotDetail]
    snapshots_links: list[Link] | None = Field(default=None, exclude_if=absent)


@router.get("/snapshots", name="list_snapshots_by_name")
@router.get("/snapshots/detail")
def list_snapshots(
    project_id: str,
    query: Annotated[ListCinderSnapshots, Query()],
    session: Reading,
    settings: Configured,
    request: Request,
) -> CinderSnapshots:
    """List the project's snapshots; both lists have all that Cinder's longer one has."""
    wanted = query.wanted()
    snapshots.check_filter(wanted, settings.availability_zones)
    listed = legacy_snapshots.list_page(session, project_id, wanted, query.page())
    following = links.next_page(request, listed.snapshots[-1].id if listed.more else None)
    return CinderSnapshots(
        snapshots=[detail(snapshot) for snapshot in listed.snapshots],
        snapshots_links=following or None,
    )


@router.post("/snapshots/{snapshot_id}/action", status_code=HTTPStatus.ACCEPTED, response_class=Response)
def act_on_snapshot(
    project_id: str, snapshot_id: Text255, body: ActOnCinderSnapshot, session: Writing, clock: Time
) -> None:
    """Delete a snapshot; any other action makes no sense here, and the refusal says why."""
    if "os_force_delete" in body.model_fields_set:
        legacy_snapshots.order_deletion(session, project_id, snapshot_id, clock.now())
    else:
        legacy_snapshots.refuse_action(session, project_id, snapshot_id, body.name())


# The other calls are those of cloudsnapshots, to the letter.
router.post("/snapshots", status_code=HTTPStatus.ACCEPTED)(create_legacy_snapshot)
router.get("/snapshots/{snapshot_id}")(show_legacy_snapshot)
router.put("/snapshots/{snapshot_id}")(update_legacy_snapshot)
router.delete("/snapshots/{snapshot_id}", status_code=HTTPStatus.ACCEPTED, response_class=Response)(
    delete_legacy_snapshot
)
router.post("/os-vendor-snapshots/{snapshot_id}/rollback", status_code=HTTPStatus.ACCEPTED)(roll_back_legacy_snapshot)
router.include_router(router_of(legacy_snapshots, "snapshot"), prefix="/snapshots")
