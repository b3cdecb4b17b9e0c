"""What is kept in memory of archived disks."""

import tracemalloc

from archived import CHUNK, Volume, noise

from onecut.repository.address import open_store
from onecut.repository.cache import Cache
from onecut.repository.image import Image
from onecut.repository.repository import IMAGE_CHUNK_BYTES, Repository, chunk_path
from onecut.units import MiB


def test_what_was_asked_for_longest_ago_makes_room() -> None:
    """Asking for a value keeps it; of the others the oldest goes."""
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1

    cache.put("c", 3)

    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)


def test_images_share_what_they_have_in_common(repository: Repository) -> None:
    """A chunk that one image has read, another one of the same repository has at once."""
    volume = Volume(repository, bytearray(noise(1, 8 * CHUNK)))
    first = volume.snapshot()
    volume.write(0, noise(2, CHUNK))
    second = volume.snapshot()
    Image(repository, first).readinto(memoryview(bytearray(CHUNK)), 5 * CHUNK)
    repository.store.delete([chunk_path(bytes.fromhex(first.run_id), 5)])
    found = bytearray(CHUNK)

    Image(repository, second).readinto(memoryview(found), 5 * CHUNK)

    assert bytes(found) == bytes(volume.data[5 * CHUNK : 6 * CHUNK])


def test_many_images_take_no_more_memory_than_one() -> None:
    """Twelve disks of 8 MiB, read whole and kept open, leave the cache's limit in memory."""
    repository = Repository.create(open_store("memory:"), chunk_bytes=MiB)
    images = []
    for number in range(12):
        volume = Volume(repository, bytearray(noise(number, 8 * MiB)))
        images.append(Image(repository, volume.snapshot()))
    tracemalloc.start()
    try:
        for image in images:
            image.readinto(memoryview(bytearray(image.size_bytes)), 0)
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert IMAGE_CHUNK_BYTES * 0.9 < kept_bytes < IMAGE_CHUNK_BYTES * 1.3
