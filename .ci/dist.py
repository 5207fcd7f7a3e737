# SPDX-License-Identifier: Apache-2.0
"""Builds the wheel and the sdist from what git tracks; equal sources and one setuptools give equal bytes.

Neither sees the tree itself, where setuptools would take along what earlier builds and stray files left. Times of files
are ``SOURCE_DATE_EPOCH`` (https://reproducible-builds.org/specs/source-date-epoch), else that of the last commit. The
wheel is built from the sdist, so whoever builds it from there gets the same.
"""

import argparse
import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: What a build reads.
SOURCES = (
    *("overlay", "quantize", "hls", "driver", "cli"),
    *("pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE"),
)


def tracked(root: Path) -> list[Path]:
    """Files below ``SOURCES`` that git tracks and that are there, relative to the root."""
    listed = subprocess.run(["git", "ls-files", "-z", *SOURCES], cwd=root, capture_output=True, text=True, check=True)
    return [Path(name) for name in listed.stdout.split("\0") if name and (root / name).is_file()]


def last_commit_seconds(root: Path) -> int:
    """Time of the last commit."""
    shown = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=root, capture_output=True, text=True, check=True)
    return int(shown.stdout)


def copy_sources(root: Path, target: Path) -> None:
    """Copies the tracked files; the modes are those of an ordinary umask."""
    for name in tracked(root):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes((root / name).read_bytes())
        (target / name).chmod(0o644)


def run_backend(kind: str, source: Path, target: Path, seconds: int) -> Path:
    """Builds a ``wheel`` or an ``sdist`` with this environment's setuptools."""
    target.mkdir(parents=True, exist_ok=True)
    # Wheels keep the modes of what the backend writes on its way.
    program = (
        f"import os; os.umask(0o022)\nfrom setuptools import build_meta as b; print(b.build_{kind}({str(target)!r}))"
    )
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(seconds)}
    done = subprocess.run([sys.executable, "-c", program], cwd=source, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return target / done.stdout.splitlines()[-1]


def with_fixed_times(archive: bytes, seconds: int) -> bytes:
    """A .tar.gz with its members in order, of one time and no owner, which setuptools leaves as it finds them."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as given,
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=seconds) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as written,
    ):
        for member in sorted(given.getmembers(), key=lambda member: member.name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.mtime = member.type, member.size, seconds
            plain.mode = 0o755 if member.isdir() else 0o644
            written.addfile(plain, given.extractfile(member) if member.isfile() else None)
    return packed.getvalue()


def build(root: Path, target: Path, seconds: int) -> tuple[Path, Path]:
    """Writes both into a folder and returns their paths, the wheel's first."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        source, unpacked = Path(scratch, "source"), Path(scratch, "unpacked")
        copy_sources(root, source)
        made = run_backend("sdist", source, Path(scratch, "sdist"), seconds)
        sdist = target / made.name
        sdist.write_bytes(with_fixed_times(made.read_bytes(), seconds))
        with tarfile.open(sdist) as archive:
            # Debian's Python 3.11.2 has no filters yet; newer ones warn without one.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(unpacked)
        (folder,) = unpacked.iterdir()
        return run_backend("wheel", folder, target, seconds), sdist


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    chosen = parser.parse_args()
    stated = os.environ.get("SOURCE_DATE_EPOCH")
    seconds = int(stated) if stated else last_commit_seconds(ROOT)
    for path in build(ROOT, chosen.output, seconds):
        print(f"{path} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
