"""
The keys under which a project's digests are made.

Chunks and pages of two projects never have the same digest, so nobody can learn from a digest what another tenant
stores. The keys derive from the repository's id, which is no secret: they separate, they do not encrypt.
"""

from dataclasses import dataclass
from typing import Final

from blake3 import blake3

DIGEST_BYTES: Final = 32


@dataclass(frozen=True)
class ProjectKeys:
    """One key for each kind of digest, so that bytes of one kind can't pass for another."""

    chunk: bytes
    page: bytes
    root: bytes
    manifest: bytes

    @classmethod
    def derive(cls, repository_id: str, project_id: str) -> "ProjectKeys":
        """Derive the keys of a project in a repository (`docs/repository-format.md`, "Keys")."""
        material = f"{repository_id}/{project_id}".encode()
        return cls(*(_derive(kind, material) for kind in ("chunk", "page", "root", "manifest")))


def digest(key: bytes, *parts: bytes | bytearray | memoryview) -> bytes:
    """Return the keyed BLAKE3 of the concatenation of *parts*."""
    hasher = blake3(key=key)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def _derive(kind: str, material: bytes) -> bytes:
    return blake3(material, derive_key_context=f"onecut repository 2026-01 {kind}").digest()
