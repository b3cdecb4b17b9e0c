"""Bind the snapshots of one cut together."""

from onecut.repository.manifest import GroupManifest, group_path, signed, to_bytes
from onecut.repository.repository import Repository


def put_group(repository: Repository, group: GroupManifest) -> GroupManifest:
    """Write a group's manifest, after those of its members, and return it with its digest."""
    complete = signed(group, repository.keys(group.project_id))
    repository.store.put(complete.path, to_bytes(complete))
    return complete


def delete_group(repository: Repository, project_id: str, group_id: str) -> None:
    """Delete a group's manifest, before its members are. One that is not there is no error."""
    repository.store.delete([group_path(project_id, group_id)])
