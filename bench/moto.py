"""The peer of the API's speed: ``moto_server``, which answers EC2's calls out of its memory."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

from bench.requests import Request, Server

START_DEADLINE_S = 60.0
ACCOUNT = "123456789012"
"""Whom moto takes every caller for."""
HEADERS = {
    "Content-Type": "application/x-www-form-urlencoded",
    "Authorization": "AWS4-HMAC-SHA256 Credential=key/20250101/us-east-1/ec2/aws4_request",
}
"""moto reads the region off the signature, and does not verify it."""


@contextmanager
def running_moto() -> Iterator[Server]:
    """Run a server that has nothing yet, and yield it once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as moto:
        try:
            _wait_for(port)
            yield Server("127.0.0.1", port)
        finally:
            moto.terminate()


def request(action: str, **parameters: str) -> Request:
    """Build an EC2 call; two underscores in a parameter's name stand for a dot."""
    named = {name.replace("__", "."): value for name, value in parameters.items()}
    body = urlencode({"Action": action, "Version": "2016-11-15", **named}).encode()
    return Request("POST", "/", HEADERS, body)


def texts(answer: bytes, tag: str) -> list[str]:
    """Return the texts of all elements of that name, whatever their namespace."""
    return [element.text or "" for element in ET.fromstring(answer).findall(f".//{{*}}{tag}")]  # noqa: S314 - our own peer


def new_instance(moto: Server) -> str:
    """Make an instance with two disks, and return its id."""
    image_id = texts(moto.ask(request("DescribeImages")), "imageId")[0]
    instance = moto.ask(request("RunInstances", ImageId=image_id, MinCount="1", MaxCount="1"))
    (instance_id,), (zone,) = texts(instance, "instanceId"), texts(instance, "availabilityZone")
    (volume_id,) = texts(moto.ask(request("CreateVolume", Size="10", AvailabilityZone=zone)), "volumeId")
    moto.ask(request("AttachVolume", VolumeId=volume_id, InstanceId=instance_id, Device="/dev/sdc"))
    return instance_id


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
