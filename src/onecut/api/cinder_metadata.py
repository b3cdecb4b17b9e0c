"""Cinder's metadata calls, which are the same for volumes and snapshots."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from onecut.api.dependencies import Reading, Time, Writing
from onecut.api.fields import Body, Text255
from onecut.api.routing import Router
from onecut.errors import BadRequest, NotFound

Metadata = dict[Text255, Text255]


class Owners(Protocol):
    """The service functions of what has metadata; each raises `NotFound` for an unknown resource."""

    def find_metadata(self, session: Session, project_id: str, resource_id: str, /) -> dict[str, str]:
        """Return a resource's metadata."""

    def put_metadata(
        self, session: Session, project_id: str, resource_id: str, now: datetime, wanted: Mapping[str, str], /
    ) -> dict[str, str]:
        """Add metadata to a resource's, and return all of it."""

    def replace_metadata(
        self, session: Session, project_id: str, resource_id: str, now: datetime, wanted: Mapping[str, str], /
    ) -> dict[str, str]:
        """Let a resource have this metadata and no other, and return it."""

    def remove_metadata(
        self, session: Session, project_id: str, resource_id: str, now: datetime, key: str, /
    ) -> None:
        """Remove one key; raises `NotFound` when it is not there."""


class MetadataBody(Body):
    """All metadata, or what is added to it."""

    metadata: Metadata


class MetaBody(Body):
    """One key of the metadata with its value."""

    meta: Annotated[Metadata, Field(min_length=1, max_length=1)]


class MetadataView(BaseModel):
    """All metadata."""

    metadata: dict[str, str]


class MetaView(BaseModel):
    """One key of the metadata with its value."""

    meta: dict[str, str]


def router_of(owners: Owners, noun: str) -> Router:
    """Make the routes for the *noun* that *owners* speak for; the caller is checked where they are included."""
    router = Router(prefix="/{resource_id}/metadata")

    @router.get("", name=f"show_{noun}_metadata")
    def show_metadata(project_id: str, resource_id: Text255, session: Reading) -> MetadataView:
        """Show all metadata."""
        return MetadataView(metadata=owners.find_metadata(session, project_id, resource_id))

    @router.post("", name=f"add_{noun}_metadata")
    def add_metadata(
        project_id: str, resource_id: Text255, body: MetadataBody, session: Writing, clock: Time
    ) -> MetadataView:
        """Add metadata; a key that is there already gets the new value."""
        return MetadataView(
            metadata=owners.put_metadata(session, project_id, resource_id, clock.now(), body.metadata)
        )

    @router.put("", name=f"replace_{noun}_metadata")
    def replace_metadata(
        project_id: str, resource_id: Text255, body: MetadataBody, session: Writing, clock: Time
    ) -> MetadataView:
        """Keep this metadata and no other."""
        return MetadataView(
            metadata=owners.replace_metadata(session, project_id, resource_id, clock.now(), body.metadata)
        )

    @router.get("/{key}", name=f"show_{noun}_metadata_key")
    def show_metadata_key(project_id: str, resource_id: Text255, key: Text255, session: Reading) -> MetaView:
        """Show one key with its value."""
        metadata = owners.find_metadata(session, project_id, resource_id)
        if key not in metadata:
            raise NotFound("metadata key", key)
        return MetaView(meta={key: metadata[key]})

    @router.put("/{key}", name=f"put_{noun}_metadata_key")
    def put_metadata_key(
        *, project_id: str, resource_id: Text255, key: Text255, body: MetaBody, session: Writing, clock: Time
    ) -> MetaView:
        """Set one key."""
        if key not in body.meta:
            raise BadRequest(f"meta: must have the key of the path, {key!r}; has {', '.join(body.meta)!r}")
        owners.put_metadata(session, project_id, resource_id, clock.now(), body.meta)
        return MetaView(meta=body.meta)

    @router.delete("/{key}", response_class=Response, name=f"delete_{noun}_metadata_key")
    def delete_metadata_key(
        project_id: str, resource_id: Text255, key: Text255, session: Writing, clock: Time
    ) -> None:
        """Remove one key."""
        owners.remove_metadata(session, project_id, resource_id, clock.now(), key)

    return router
