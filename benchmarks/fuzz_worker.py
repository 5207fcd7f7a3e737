# SPDX-License-Identifier: Apache-2.0
"""Runs cases of one reader in a process of its own, which may crash, hang or run out of memory.

``python -m benchmarks.fuzz_worker READER SEED FIRST LAST PLACE FOLDER [COVERAGE]``: PLACE is a file that always holds
the number of the case that runs; the last line of the output is a JSON object with what was found.
"""

import contextlib
import json
import os
import resource
import shutil
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.fuzz_readers import READERS, Files, Reader
from hetfab.overlay.errors import HetfabError

#: What the readers may add to the memory of the process.
_LIMIT_BYTES = 1 << 30
_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "socket.connect")


class Watch:
    """Notes what a reader must not do: run a program, unpickle, open a file outside of the folder of its case."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._case = str(root / "case") + os.sep
        self.on = False
        self.broken: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in _FORBIDDEN:
            self.broken.append(f"{event} {arguments[:1]}")
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            inside = (path + os.sep).startswith(self._case)
            if not inside and path.startswith((self._root, "/etc/host")):
                self.broken.append(f"open {path}")


def put(files: Files, folder: Path) -> None:
    """Writes the files of a case into a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, raw in files.items():
        (folder / name).write_bytes(raw)


def outcome(reader: Reader, folder: Path, watch: Watch) -> str:
    """What a case ends in: ``read``, ``refused``, or in words what should not happen."""
    watch.broken.clear()
    watch.on = True
    try:
        reader.read(folder)
        ended = "read"
    except HetfabError as error:
        str(error), json.dumps(error.as_dict())
        ended = "refused"
    except BaseException as error:  # Everything else is what is looked for.
        ended = f"{type(error).__name__}: {error}"[:300]
    finally:
        watch.on = False
    return f"forbidden: {watch.broken[0]}" if watch.broken else ended


def run(reader: Reader, seed: int, numbers: range, place: Path, folder: Path, covered: Path | None) -> dict[str, Any]:
    """Runs cases, and says what was found."""
    seeds = reader.seeds()
    watch = Watch(folder)
    (folder / "secret.csv").write_text("id,age\nsecret,1\n")
    _limit_memory()
    found: Counter[str] = Counter()
    bad: dict[int, str] = {}
    baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with place.open("r+b", buffering=0) as progress, _coverage(reader, covered), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in numbers:
            os.pwrite(progress.fileno(), number.to_bytes(8, "little"), 0)
            files = reader.case(seeds, seed, number)
            put(files, folder / "case")
            found["header"] += reader.header(folder / "case")
            ended = outcome(reader, folder / "case", watch)
            found[ended if ended in ("read", "refused") else "bad"] += 1
            if ended not in ("read", "refused") or (ended == "refused" and number < len(seeds)):
                bad[number] = ended
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**found, "failures": bad, "peak_kib": peak, "grown_kib": peak - baseline}


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + _LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _coverage(reader: Reader, target: Path | None) -> Any:
    """Notes the lines of the reader's code that run."""
    if target is None:
        return contextlib.nullcontext()
    import coverage

    tracer = coverage.Coverage(data_file=str(target), include=[code.module.__file__ for code in reader.code])

    @contextlib.contextmanager
    def traced() -> Any:
        tracer.start()
        try:
            yield
        finally:
            tracer.stop()
            tracer.save()

    return traced()


if __name__ == "__main__":
    name, seed, first, last, place, folder, *rest = sys.argv[1:]
    found = run(
        READERS[name],
        int(seed),
        range(int(first), int(last)),
        Path(place),
        Path(folder),
        Path(rest[0]) if rest else None,
    )
    print(json.dumps(found))
