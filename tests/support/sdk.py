"""The vendor's SDK as a client of a running service."""

from collections.abc import Mapping
from typing import Any

import huaweicloudsdkevs.v2 as evs
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.region.region import Region


def evs_client(credentials: Mapping[str, str]) -> Any:
    """Make a client that knows the service's address, its region and an access key, and nothing else."""
    signer = BasicCredentials(credentials["access_key"], credentials["secret_key"])
    region = Region(credentials["region"], credentials["endpoint"])
    builder = evs.EvsClient.new_builder().with_credentials(signer.with_iam_endpoint(credentials["endpoint"]))
    return builder.with_region(region).build()
