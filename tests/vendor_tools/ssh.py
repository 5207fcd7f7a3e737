# SPDX-License-Identifier: Apache-2.0
"""A modelled ssh: runs the command with sh in a folder that stands for the other machine's home."""

import os
import subprocess
import sys
from pathlib import Path

from tests.vendor_tools.tool import wishes


def main() -> int:
    """Takes ``-o OPTION`` pairs, a host and a command, as hetfab calls ssh."""
    arguments, wanted = sys.argv[1:], wishes()
    while arguments and arguments[0] == "-o":
        arguments = arguments[2:]
    host, command = arguments
    if host != wanted["host"]:
        print(f"ssh: Could not resolve hostname {host.rpartition('@')[2]}: Name or service not known", file=sys.stderr)
        return 255
    home = Path(wanted["home"])
    home.mkdir(exist_ok=True)
    environment = os.environ | {"PATH": f"{wanted['host_path']}:{os.environ['PATH']}", "HOME": str(home)}
    return subprocess.run(["sh", "-c", command], cwd=home, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
