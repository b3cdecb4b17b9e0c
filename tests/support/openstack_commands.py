"""
Run commands of the OpenStack client, one a line of standard input, and tell what came of each.

A program of its own: it imports the client once, which is most of what a command costs, and forks for each command,
so that none finds what another left. A line is a JSON list of arguments; the answer is one of exit status, output and
errors.
"""

import json
import os
import sys
import tempfile

import openstack.connection  # noqa: F401 - imported for all commands to come
import openstackclient.common.availability_zone
import openstackclient.common.limits
import openstackclient.volume.v3.volume
import openstackclient.volume.v3.volume_snapshot
import openstackclient.volume.v3.volume_type  # noqa: F401 - as above
from openstackclient.shell import main


def run(arguments: list[str]) -> tuple[int, str, str]:
    """Run one command in a process of its own, and return its exit status, output and errors."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process_id = os.fork()
        if process_id == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            status = main(arguments)
            sys.stdout.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])
        output.seek(0)
        errors.seek(0)
        return status, output.read(), errors.read()


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)  # noqa: T201 - a program prints
