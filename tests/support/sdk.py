"""The vendor's SDK as a client of a running service."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import huaweicloudsdkevs.v2 as evs
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.region.region import Region
from running import Site, Tenant


def evs_client(credentials: Mapping[str, str]) -> Any:
    """Make a client that knows the service's address, its region and an access key, and nothing else."""
    signer = BasicCredentials(credentials["access_key"], credentials["secret_key"])
    region = Region(credentials["region"], credentials["endpoint"])
    builder = evs.EvsClient.new_builder().with_credentials(signer.with_iam_endpoint(credentials["endpoint"]))
    return builder.with_region(region).build()


def new_credentials(site: Site, tenant: Tenant) -> dict[str, str]:
    """Make an access key for a tenant of *site*, and return what its client has to know."""
    token = {"X-Subject-Token": tenant.client.headers["X-Auth-Token"]}
    user_id = tenant.call("GET", "/v3/auth/tokens", 200, headers=token)["token"]["user"]["id"]
    body = {"credential": {"user_id": user_id, "description": ""}}
    made = tenant.call("POST", "/v3.0/OS-CREDENTIAL/credentials", 201, json=body)["credential"]
    return site.credentials | {"access_key": made["access"], "secret_key": made["secret"]}


def sdk_operations() -> dict[str, tuple[str, str]]:
    """Read from the SDK's client which operations it has: the method and the path of each one's request."""
    source = inspect.getsource(evs.EvsClient)
    found = re.findall(r'def _(\w+)_http_info\(.*?"method": "(\w+)",\s*"resource_path": "([^"]+)"', source, re.DOTALL)
    return {name: (method, path) for name, method, path in found}


@dataclass
class Calls:
    """Which operations were called, by what came of them: an answer that the SDK understood, or a refusal."""

    answered: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)

    def noted(self, client: Any) -> Any:
        """Return a client that does what *client* does, and notes it here."""
        return _NotedClient(client, self)


class _NotedClient:
    def __init__(self, client: Any, calls: Calls) -> None:
        self._client = client
        self._calls = calls

    def __getattr__(self, operation: str) -> Callable[[Any], Any]:
        method = getattr(self._client, operation)

        def call(request: Any) -> Any:
            try:
                answer = method(request)
            except ClientRequestException:
                self._calls.refused.add(operation)
                raise
            self._calls.answered.add(operation)
            return answer

        return call
