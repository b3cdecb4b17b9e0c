"""``os-volume-transfer``: giving a volume to another project, in Cinder's words. Both versions answer alike."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, Field

from onecut.api import links
from onecut.api.auth import project_caller
from onecut.api.dependencies import Reading, Time, Writing
from onecut.api.fields import Body, Filters, Limit, Offset, OwnMarker, Text255, Uuid
from onecut.api.links import Link
from onecut.api.routing import Router
from onecut.clock import time_text
from onecut.db.transfers import VolumeTransfer
from onecut.service import transfers
from onecut.service.listing import Page

router = Router(tags=["volume transfers"], dependencies=[Depends(project_caller)])

COLLECTION = "os-volume-transfer"


class _NewTransfer(Body):
    volume_id: Uuid
    name: Text255 | None = None


class CreateTransfer(Body):
    """The body that offers a volume."""

    transfer: _NewTransfer


class _Acceptance(Body):
    auth_key: Text255 = Field(description="What whoever offers the volume was shown.")


class AcceptTransfer(Body):
    """The body that accepts a volume."""

    accept: _Acceptance


class ListTransfers(Filters):
    """Paging of the lists."""

    marker: OwnMarker | None = None
    limit: Limit = 1000
    offset: Offset = 0

    def page(self) -> Page:
        """Say which part is wanted."""
        return Page(limit=self.limit, offset=self.offset, marker=self.marker)


class TransferSummary(BaseModel):
    """A transfer in short."""

    id: str
    name: str
    volume_id: str
    links: list[Link]


class TransferView(TransferSummary):
    """A transfer."""

    created_at: str


class NewTransferView(TransferView):
    """A transfer that was just made."""

    auth_key: str = Field(description="Accepts the transfer. It is shown this once.")


class TransferSummaryEnvelope(BaseModel):
    """One transfer in short."""

    transfer: TransferSummary


class TransferEnvelope(BaseModel):
    """One transfer."""

    transfer: TransferView


class NewTransferEnvelope(BaseModel):
    """One transfer that was just made."""

    transfer: NewTransferView


class TransferSummaryPage(BaseModel):
    """One page of transfers in short."""

    transfers: list[TransferSummary]


class TransferPage(BaseModel):
    """One page of transfers."""

    transfers: list[TransferView]


@router.post("/v2/{project_id}/os-volume-transfer", status_code=HTTPStatus.ACCEPTED, summary="Offer a volume")
@router.post("/v3/{project_id}/os-volume-transfer", status_code=HTTPStatus.ACCEPTED, summary="Offer a volume")
def create_transfer(
    project_id: str, body: CreateTransfer, session: Writing, clock: Time, request: Request
) -> NewTransferEnvelope:
    """Offer a volume to another project; whoever gets the key may accept it."""
    asked = body.transfer
    offer = transfers.create(session, project_id, asked.volume_id, clock.now(), name=asked.name or "")
    return NewTransferEnvelope(transfer=NewTransferView(**_full(request, offer.transfer), auth_key=offer.auth_key))


@router.get("/v2/{project_id}/os-volume-transfer", summary="List transfers")
@router.get("/v3/{project_id}/os-volume-transfer", summary="List transfers")
def list_transfers(
    project_id: str, query: Annotated[ListTransfers, Query()], session: Reading, request: Request
) -> TransferSummaryPage:
    """List the transfers that the project offers, the newest first."""
    found = transfers.list_page(session, project_id, query.page())
    return TransferSummaryPage(transfers=[TransferSummary(**_short(request, transfer)) for transfer in found])


@router.get("/v2/{project_id}/os-volume-transfer/detail", summary="List transfers with their times")
@router.get("/v3/{project_id}/os-volume-transfer/detail", summary="List transfers with their times")
def list_transfer_details(
    project_id: str, query: Annotated[ListTransfers, Query()], session: Reading, request: Request
) -> TransferPage:
    """List the transfers that the project offers, the newest first."""
    found = transfers.list_page(session, project_id, query.page())
    return TransferPage(transfers=[TransferView(**_full(request, transfer)) for transfer in found])


@router.get("/v2/{project_id}/os-volume-transfer/{transfer_id}", summary="Show a transfer")
@router.get("/v3/{project_id}/os-volume-transfer/{transfer_id}", summary="Show a transfer")
def show_transfer(project_id: str, transfer_id: Uuid, session: Reading, request: Request) -> TransferEnvelope:
    """Show a transfer that the project offers, without its key."""
    return TransferEnvelope(transfer=TransferView(**_full(request, transfers.find(session, project_id, transfer_id))))


@router.post(
    "/v2/{project_id}/os-volume-transfer/{transfer_id}/accept",
    status_code=HTTPStatus.ACCEPTED,
    summary="Accept a volume",
)
@router.post(
    "/v3/{project_id}/os-volume-transfer/{transfer_id}/accept",
    status_code=HTTPStatus.ACCEPTED,
    summary="Accept a volume",
)
def accept_transfer(
    *, project_id: str, transfer_id: Uuid, body: AcceptTransfer, session: Writing, clock: Time, request: Request
) -> TransferSummaryEnvelope:
    """Take a volume that another project offers; it is this project's at once."""
    transfer = transfers.accept(session, project_id, transfer_id, body.accept.auth_key, clock.now())
    return TransferSummaryEnvelope(transfer=TransferSummary(**_short(request, transfer)))


@router.delete(
    "/v2/{project_id}/os-volume-transfer/{transfer_id}",
    status_code=HTTPStatus.ACCEPTED,
    response_class=Response,
    summary="Take an offer back",
)
@router.delete(
    "/v3/{project_id}/os-volume-transfer/{transfer_id}",
    status_code=HTTPStatus.ACCEPTED,
    response_class=Response,
    summary="Take an offer back",
)
def delete_transfer(project_id: str, transfer_id: Uuid, session: Writing, clock: Time) -> Response:
    """End a transfer that nobody has accepted; the volume is available again."""
    transfers.delete(session, project_id, transfer_id, clock.now())
    return Response(status_code=HTTPStatus.ACCEPTED)


def _short(request: Request, transfer: VolumeTransfer) -> dict[str, Any]:
    version, project_id = request.url.path.split("/")[1:3]
    return {
        "id": transfer.id,
        "name": transfer.name,
        "volume_id": transfer.volume_id,
        "links": links.of_resource(request, version, project_id, COLLECTION, transfer.id),
    }


def _full(request: Request, transfer: VolumeTransfer) -> dict[str, Any]:
    return _short(request, transfer) | {"created_at": time_text(transfer.created_at)}
