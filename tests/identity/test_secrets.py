import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from onecut.errors import Misconfigured
from onecut.service.secrets import ServiceKey


def test_the_key_file_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    """A second start reads what the first made; the file has mode 0600 and no draft stays beside it."""
    path = tmp_path / "secret.key"

    sealed = ServiceKey.open(path).encrypt("secret", owner="AK")

    assert ServiceKey.open(path).decrypt(sealed, owner="AK") == "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_two_first_starts_agree_on_one_key(tmp_path: Path) -> None:
    """Whoever comes first, all open what one has encrypted."""
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: ServiceKey.open(tmp_path / "secret.key"), range(8)))

    sealed = keys[0].encrypt("secret", owner="AK")

    assert {key.decrypt(sealed, owner="AK") for key in keys} == {"secret"}


def test_a_stored_secret_opens_only_with_its_key_and_for_its_owner(tmp_path: Path) -> None:
    """Another key, another owner's row, or a changed byte is told as a fault of the installation."""
    key = ServiceKey.open(tmp_path / "secret.key")
    sealed = key.encrypt("secret", owner="AK1")

    assert b"secret" not in sealed
    for wrong, owner, stored in (
        (ServiceKey.open(tmp_path / "other.key"), "AK1", sealed),
        (key, "AK2", sealed),
        (key, "AK1", sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        with pytest.raises(Misconfigured):
            wrong.decrypt(stored, owner=owner)


@pytest.mark.parametrize(("content", "mode"), [(b"x" * 32, 0o644), (b"short", 0o600)])
def test_a_key_file_that_others_may_read_or_that_is_broken_is_refused(
    tmp_path: Path,
    content: bytes,
    mode: int,
) -> None:
    """The start stops with a sentence that names the file."""
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    path.chmod(mode)

    with pytest.raises(Misconfigured, match=str(path)):
        ServiceKey.open(path)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """No key file can be made in it: an operator must act."""
    with pytest.raises(Misconfigured, match="No such file"):
        ServiceKey.open(tmp_path / "none" / "secret.key")
