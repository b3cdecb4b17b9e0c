"""The bytes of the format, as `docs/repository-format.md` has them. A change here is another version."""

import json

import pytest
import zstandard
from archived import CHUNK, START, Bytes, Volume
from blake3 import blake3

from onecut.repository.archive import Request, archive
from onecut.repository.chunk import seal, unseal
from onecut.repository.extents import Extent, Kind
from onecut.repository.keys import ProjectKeys, digest
from onecut.repository.manifest import Chain, read_snapshot
from onecut.repository.page import Entry, Inner, Leaf, Ref, decode
from onecut.repository.repository import Repository, chunk_path, page_path

KEYS = ProjectKeys.derive("0" * 32, "project1")
RUN = bytes(range(16))


class TestVectors:
    def test_keys(self) -> None:
        """Keys derive from the repository's and the project's id, one for each kind."""
        context = "onecut repository 2026-01 chunk"

        assert blake3(b"0" * 32 + b"/project1", derive_key_context=context).digest() == KEYS.chunk
        assert KEYS.chunk.hex() == CHUNK_KEY
        assert len({KEYS.chunk, KEYS.page, KEYS.root, KEYS.manifest}) == 4
        assert ProjectKeys.derive("0" * 32, "project2").chunk != KEYS.chunk

    def test_a_raw_chunk(self) -> None:
        """What does not compress is stored as it is, behind a header of 48 bytes."""
        data = bytes(range(256)) * 2
        data = blake3(data).digest(length=512)
        head, body = seal(data, digest(KEYS.chunk, data))

        assert head.hex() == RAW_HEAD
        assert bytes(body) == data
        assert unseal("x", head + bytes(body), KEYS.chunk, digest(KEYS.chunk, data), 512) == data

    def test_a_compressed_chunk(self) -> None:
        """What compresses is one zstd frame of which any decompressor makes the data."""
        head, body = seal(b"a" * 512, digest(KEYS.chunk, b"a" * 512))

        assert head[:16] == b"OCC1\x01\0\0\0\x00\x02\0\0" + len(body).to_bytes(4, "little")
        assert zstandard.decompress(body) == b"a" * 512

    def test_a_leaf(self) -> None:
        """Columns of keys and digests, then the places, then the checksum."""
        leaf = Leaf()
        leaf.append(3, Entry(b"\x03" * 32, RUN, 7, 100))
        leaf.append(5, Entry(b"\x05" * 32, bytes(16), 8, 200))

        page_digest, data = leaf.encoded(KEYS.page)

        what = (3).to_bytes(8, "little") + (5).to_bytes(8, "little") + b"\x03" * 32 + b"\x05" * 32
        where = bytes(16) + RUN + bytes([1, 0, 0, 0]) + bytes([7, 0, 0, 0, 8, 0, 0, 0, 100, 0, 0, 0, 200, 0, 0, 0])
        body = b"OCP1\0\0\x02\0\x02\0\0\0\0\0\0\0" + what + where
        assert data == body + digest(KEYS.page, body)
        assert page_digest == digest(KEYS.page, b"\0\0", what)
        assert page_digest.hex() == LEAF_DIGEST
        assert decode("x", data, KEYS.page, page_digest) == leaf

    def test_an_inner_page(self) -> None:
        """Columns of slots, counts and digests, then the places, then the checksum."""
        inner = Inner(2, {4: Ref(b"\x04" * 32, RUN, 9, 600), 1: Ref(b"\x01" * 32, RUN, 10, 1)})

        page_digest, data = inner.encoded(KEYS.page)

        what = b"\x01\x04" + (1).to_bytes(8, "little") + (600).to_bytes(8, "little") + b"\x01" * 32 + b"\x04" * 32
        body = b"OCP1\x01\x02\x01\0\x02\0\0\0\0\0\0\0" + what + RUN + bytes([0, 0, 0, 0, 10, 0, 0, 0, 9, 0, 0, 0])
        assert data == body + digest(KEYS.page, body)
        assert page_digest == digest(KEYS.page, b"\x01\x02", what)
        assert decode("x", data, KEYS.page, page_digest) == inner

    def test_names(self) -> None:
        """Objects of a run lie in folders of 1,024."""
        assert chunk_path(RUN, 0) == f"chunks/{RUN.hex()}/000000/000"
        assert page_path(RUN, 1024 * 17 + 1023) == f"trees/{RUN.hex()}/000011/3ff"

    def test_a_manifest_and_its_root(self, repository: Repository) -> None:
        """Root and digest can be made from the manifest's own fields by anybody who has the page above."""
        manifest = Volume(repository, bytearray(b"x" * (CHUNK + 1))).snapshot()
        keys = repository.keys("project1")
        stored = repository.store.get(manifest.path)
        plain = json.loads(stored)
        claimed = plain.pop("digest")

        canonical = json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
        lengths = (CHUNK + 1).to_bytes(8, "little") + CHUNK.to_bytes(4, "little")
        assert digest(keys.manifest, canonical).hex() == claimed
        assert digest(keys.root, lengths + bytes.fromhex(plain["blocks"]["digest"])).hex() == plain["root"]
        assert read_snapshot(manifest.path, stored, keys) == manifest

    @pytest.mark.parametrize("bad", ["", "a/b", "../x", "a.b", "x" * 65, "-x"])
    def test_ids_can_not_leave_their_folder(self, bad: str) -> None:
        """An id that could be a path, or is too long for a name, is refused."""
        with pytest.raises(ValueError, match="can't be an id"):
            Chain("project1", bad, "chain1")


class TestExtents:
    @pytest.mark.parametrize(
        "extents",
        [
            [Extent(0, 10, Kind.DATA)],
            [Extent(0, CHUNK, Kind.DATA), Extent(CHUNK + 1, CHUNK - 1, Kind.DATA)],
            [Extent(0, CHUNK + 1, Kind.DATA), Extent(CHUNK, CHUNK, Kind.DATA)],
            [Extent(0, 3 * CHUNK, Kind.DATA)],
            [],
        ],
    )
    def test_extents_must_cover_the_disk(self, repository: Repository, extents: list[Extent]) -> None:
        """A gap, an overlap, or an end before or after the disk's is refused before there is a snapshot."""
        volume = Volume(repository, bytearray(2 * CHUNK))
        request = Request(volume.chain, "snap", "0" * 32, "name", 2 * CHUNK, START)

        with pytest.raises(ValueError, match="extent"):
            archive(repository, request, lambda: Bytes(bytes(2 * CHUNK)), extents)
        assert list(repository.store.list("snapshots")) == []

    def test_kinds_that_meet_in_a_chunk_are_read(self, repository: Repository) -> None:
        """Where zeros and data share a chunk the disk itself is asked, and zeros beside it are not read."""
        data = bytearray(4 * CHUNK)
        data[CHUNK + 100 : CHUNK + 200] = b"x" * 100
        disk = Bytes(bytes(data))
        volume = Volume(repository, data)
        request = Request(volume.chain, "snap", "0" * 32, "name", len(data), START)
        extents = [
            Extent(0, CHUNK + 100, Kind.ZERO),
            Extent(CHUNK + 100, 100, Kind.DATA),
            Extent(CHUNK + 200, 3 * CHUNK - 200, Kind.ZERO),
        ]

        archive(repository, request, lambda: disk, extents)

        assert disk.reads == [(CHUNK, CHUNK)]


CHUNK_KEY = "2e6332e3b079eeed2e789f6c6c30bfc961b2212aea7a5c10c73587f3929c4265"
RAW_HEAD = "4f4343310000000000020000000200009ad5c96171b6c30634ffd8afeb1ef9411b413a99419cf072e7c5a2be11f7e972"
LEAF_DIGEST = "fbc03ddab852149260b8cc61ef567d8543956189474a481eb0cc1fcb14ce1698"
