"""
One chunk as an object: a header that says what follows, then the data, compressed where that helps.

The digest is that of the plain data. It stands in the header too, so that an interrupted archive can tell from the
first bytes of an object whether it still has to be sent.
"""

import threading
from struct import Struct
from typing import Final

import zstandard

from onecut.repository.errors import Damaged
from onecut.repository.keys import digest

MAGIC: Final = b"OCC1"
RAW: Final = 0
ZSTD: Final = 1
HEADER: Final = Struct("<4sB3xII32s")  # magic, codec, zeros, length of the plain data, of the stored data, digest
ZSTD_LEVEL: Final = 1
"""The data is written once and read rarely, and the disk is frozen while it waits: speed over size."""

UNKNOWN: Final = -1
"""Stands for the length of a frame that does not tell it (`zstandard.frame_content_size`)."""

_codecs = threading.local()


def seal(data: bytes | memoryview, data_digest: bytes) -> tuple[bytes, bytes | memoryview]:
    """Return header and body of the object that holds *data*."""
    packed = _compressor().compress(data)
    codec, body = (ZSTD, packed) if len(packed) < len(data) else (RAW, data)
    return HEADER.pack(MAGIC, codec, len(data), len(body), data_digest), body


def unseal(path: str, sealed: bytes, key: bytes, expected: bytes, chunk_bytes: int) -> bytes:
    """
    Return the plain data of an object, verified.

    Raises:
        Damaged: The object is not what *expected*, the digest in the tree, stands for.
    """
    codec, plain_bytes, body = _take_apart(path, sealed)
    if plain_bytes != chunk_bytes:
        raise Damaged(path, f"it holds {plain_bytes} bytes of data, not {chunk_bytes}")
    data = _plain(path, codec, body, plain_bytes)
    if digest(key, data) != expected:
        raise Damaged(path, "its data does not have the digest that the tree names")
    return data


def header_digest(head: bytes, stored_bytes: int) -> bytes | None:
    """Return the digest that a header claims; None when it is no header of an object of *stored_bytes*."""
    if len(head) < HEADER.size:
        return None
    magic, _codec, _plain, body_bytes, claimed = HEADER.unpack_from(head)
    return claimed if magic == MAGIC and HEADER.size + body_bytes == stored_bytes else None


def _take_apart(path: str, sealed: bytes) -> tuple[int, int, memoryview]:
    if len(sealed) < HEADER.size:
        raise Damaged(path, f"it is {len(sealed)} bytes long, shorter than a header")
    magic, codec, plain_bytes, body_bytes, _ = HEADER.unpack_from(sealed)
    body = memoryview(sealed)[HEADER.size :]
    if magic != MAGIC or codec not in {RAW, ZSTD}:
        raise Damaged(path, "it is no chunk of a known format")
    if len(body) != body_bytes:
        raise Damaged(path, f"its body is {len(body)} bytes long, not {body_bytes}")
    return codec, plain_bytes, body


def _plain(path: str, codec: int, body: memoryview, plain_bytes: int) -> bytes:
    if codec == RAW:
        return bytes(body)
    try:
        # What the frame says of its length, zstandard allocates, whatever the most may be.
        if zstandard.frame_content_size(body) not in {UNKNOWN, plain_bytes}:
            raise Damaged(path, "its body says that it holds another length of data")
        data = _decompressor().decompress(body, max_output_size=plain_bytes)
    except zstandard.ZstdError as error:
        raise Damaged(path, f"it can't be decompressed: {error}") from error
    return data


def _compressor() -> zstandard.ZstdCompressor:
    """Return this thread's compressor: zstandard's objects are not made for sharing."""
    if not hasattr(_codecs, "compressor"):
        _codecs.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=False)
    compressor: zstandard.ZstdCompressor = _codecs.compressor
    return compressor


def _decompressor() -> zstandard.ZstdDecompressor:
    if not hasattr(_codecs, "decompressor"):
        _codecs.decompressor = zstandard.ZstdDecompressor()
    decompressor: zstandard.ZstdDecompressor = _codecs.decompressor
    return decompressor
