# SPDX-License-Identifier: Apache-2.0
"""Contract tests of the driver over each pynq that boards have, on its own Python, and without pynq.

``nox`` runs all rows of ``.ci/pynq_versions.json`` whose Python is found, ``nox --tags ci`` those that CI has time for.
There ``PYNQ_PYTHON`` stands in for a Python that is not found. ``left_out`` says by name what did not run so, and why.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import nox

ROWS = json.loads((Path(__file__).parent / ".ci" / "pynq_versions.json").read_text("utf-8"))
TESTS = ("test_hwh", "test_pynq_device", "test_driver_overlay", "test_faults", "test_entry_points", "test_pynq_remote")
TEST_PACKAGES = ("pytest", "pytest-xdist", "hypothesis")

nox.options.sessions = ["pynq", "left_out"]
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True


def is_found(python: str) -> bool:
    """Whether a Python of a version runs here; a name on the path may belong to one that does not."""
    name = shutil.which(f"python{python}")
    return name is not None and subprocess.run([name, "-c", ""], capture_output=True).returncode == 0


def python_of(row: dict[str, str]) -> str:
    """The Python that a row runs on: its own, or where that is not found the one that stands in."""
    return row["python"] if is_found(row["python"]) else os.environ.get("PYNQ_PYTHON") or row["python"]


def name_of(row: dict[str, str]) -> str:
    """A row in words."""
    return f"pynq {row['pynq']}" if row["pynq"] else "no pynq"


@nox.session
@nox.parametrize(
    ("python", "pynq"),
    [
        nox.param(python_of(row), row["pynq"], id=row["pynq"] or "none", tags=["ci"] if row["ci"] else [])
        for row in ROWS
    ],
)
def pynq(session: nox.Session, pynq: str) -> None:
    """The driver's tests, on all boards that the release supports."""
    pins = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]["emulation"]
    # The extra wants newer releases than the oldest on boards, so that is named alone.
    others = [f"pynq=={pynq}", *(pin for pin in pins if not pin.startswith("pynq"))] if pynq else []
    session.install("--editable", ".", *others, *TEST_PACKAGES)
    files = [f"tests/{name}.py" for name in TESTS]
    workers = os.environ.get("WORKERS", "2")
    session.run(
        "pytest", "-p", "skip_policy", "-n", workers, "-q", *files, *session.posargs, env={"PYTHONPATH": "tests"}
    )


@nox.session(python=False, tags=["ci"])
def left_out(session: nox.Session) -> None:
    """Names rows that CI has no time for, and Pythons that others stood in for or that are missing."""
    for row in ROWS:
        name, found = f"{name_of(row)} on Python {row['python']}", is_found(row["python"])
        if not row["ci"]:
            session.log(
                f"{name} is not run in CI: {row['why']}. By hand: nox --session 'pynq({row['pynq'] or 'none'})'"
            )
        elif not found and os.environ.get("PYNQ_PYTHON"):
            session.log(f"{name} was not run: no Python {row['python']} here; {os.environ['PYNQ_PYTHON']} stood in")
        elif not found:
            session.log(f"{name} was not run: no Python {row['python']} here, and PYNQ_PYTHON names none")
