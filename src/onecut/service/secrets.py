"""The service's own key, which encrypts the secret keys at rest, and the making of what can't be guessed."""

import hashlib
import os
import secrets
import string
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from onecut.errors import Misconfigured

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
"""AES-GCM's own nonce length. Random nonces are safe far beyond the number of access keys (NIST SP 800-38D, 8.3)."""
TOKEN_BYTES: Final = 32

_CAPITALS = string.ascii_uppercase + string.digits
_ALPHANUMERIC = string.ascii_letters + string.digits


class ServiceKey:
    """Encrypts with AES-256-GCM. What is encrypted for one owner can't be read for another."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def open(cls, path: Path) -> Self:
        """
        Read the key file, or make one (mode 0600) where there is none.

        Raises:
            Misconfigured: The file can't be used, or other users of the machine may read it.
        """
        try:
            _make_key_file(path)
        except OSError as error:
            raise Misconfigured(f"the key file {path} can't be used: {error.strerror}") from error
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Read the key file.

        Raises:
            Misconfigured: As `open`, or there is none.
        """
        try:
            mode, key = path.stat().st_mode, path.read_bytes()
        except OSError as error:
            raise Misconfigured(f"the key file {path} can't be used: {error.strerror}") from error
        if mode & 0o077:
            raise Misconfigured(f"the key file {path} may be read by others; give it mode 0600")
        if len(key) != KEY_BYTES:
            raise Misconfigured(f"the key file {path} must hold {KEY_BYTES} bytes, but holds {len(key)}")
        return cls(key)

    def encrypt(self, text: str, *, owner: str) -> bytes:
        """Encrypt *text* so that only `decrypt` with the same *owner* reads it."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text.encode(), owner.encode())

    def decrypt(self, sealed: bytes, *, owner: str) -> str:
        """
        Decrypt what `encrypt` made.

        Raises:
            Misconfigured: It was made with another key or for another owner, or was changed since.
        """
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], owner.encode()).decode()
        except InvalidTag as error:
            raise Misconfigured(
                "a stored secret can't be decrypted: the key file belongs to another database"
            ) from error


def new_token() -> str:
    """Make a token of 256 random bits, safe in a header."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_digest(token: str) -> str:
    """Return what is stored of a token. It has 256 random bits, so a plain hash can't be searched."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_access_key() -> str:
    """Make an access key in EVS's form: 20 capitals and digits."""
    return _random_text(_CAPITALS, 20)


def new_secret_key() -> str:
    """Make a secret key in EVS's form: 40 letters and digits (238 random bits)."""
    return _random_text(_ALPHANUMERIC, 40)


def new_password() -> str:
    """Make a password of 24 letters and digits (142 random bits)."""
    return _random_text(_ALPHANUMERIC, 24)


def _random_text(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _make_key_file(path: Path) -> None:
    """Write the whole key beside *path*, then link it into place: of two first starts one wins, and both read it."""
    if path.exists():
        return
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return
    finally:
        draft.unlink()
