"""Open a store from its address: a folder, ``s3://BUCKET/PREFIX?endpoint=URL&region=NAME`` or ``memory:``."""

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from onecut.errors import Misconfigured
from onecut.repository.local import LocalStore
from onecut.repository.remote import RemoteStore
from onecut.repository.retry import Backoff
from onecut.repository.store import ObjectStore


def open_store(address: str, *, backoff: Backoff | None = None) -> ObjectStore:
    """
    Open the store at *address*.

    Raises:
        Misconfigured: The address is none that is known here.
    """
    if address == "memory:":
        return RemoteStore.memory()
    if address.startswith("s3://"):
        return _s3(address, backoff or Backoff())
    if "://" in address:
        raise Misconfigured(f"{address} is no store: give a folder or s3://BUCKET/PREFIX")
    return LocalStore(Path(address))


def _s3(address: str, backoff: Backoff) -> RemoteStore:
    parts = urlsplit(address)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    endpoint, region = options.pop("endpoint", None), options.pop("region", None)
    if not parts.netloc or options:
        raise Misconfigured(f"{address} must be s3://BUCKET/PREFIX with endpoint and region as its only parameters")
    return RemoteStore.s3(parts.netloc, parts.path.strip("/"), endpoint=endpoint, region=region, backoff=backoff)
