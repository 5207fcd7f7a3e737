# SPDX-License-Identifier: Apache-2.0
"""Runs cases of one reader in a process of its own, which may crash, hang or run out of memory."""

import contextlib
import gc
import json
import os
import resource
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fuzz_readers import READERS, Files, Reader
from hetfab.overlay.errors import HetfabError

#: What the readers may add to the memory of the process.
_LIMIT_BYTES = 1 << 30
_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "socket.connect")


@dataclass(frozen=True)
class Chunk:
    """Cases that a process runs.

    Attributes:
        reader: Name of the reader.
        seed: Of its mutations.
        numbers: The cases.
        folder: For what the process writes.
        covered: Where the lines that ran are kept, None where they are not traced.
    """

    reader: str
    seed: int
    numbers: range
    folder: Path
    covered: Path | None

    @property
    def place(self) -> Path:
        """A file that always holds the number of the case that runs."""
        return self.folder / "place"

    @property
    def found(self) -> Path:
        """A file with what was found, once all cases ran."""
        return self.folder / "found.json"

    @property
    def output(self) -> Path:
        """What the process printed."""
        return self.folder / "output"


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
            path = os.fsdecode(arguments[0])
            # A case has no links: most files need no further look.
            if path.startswith(self._case) and ".." not in path:
                return
            path = os.path.realpath(path)
            inside = (path + os.sep).startswith(self._case)
            if not inside and path.startswith((self._root, "/etc/host")):
                self.broken.append(f"open {path}")


def put(files: Files, folder: Path) -> None:
    """Writes the files of a case into a folder that holds nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
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


def work(chunk: Chunk) -> None:
    """Runs a chunk of cases, and writes what was found."""
    descriptor = os.open(chunk.output, os.O_WRONLY | os.O_CREAT)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    reader = READERS[chunk.reader]
    seeds = reader.seeds()
    watch = Watch(chunk.folder)
    (chunk.folder / "secret.csv").write_text("id,age\nsecret,1\n")
    # What exists by now stays: the collector need not look at it after every few cases.
    gc.freeze()
    _limit_memory()
    with chunk.place.open("r+b", buffering=0) as progress, _coverage(reader, chunk.covered), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = run(reader, seeds, chunk, progress.fileno(), watch)
    chunk.found.write_text(json.dumps(found))


def run(reader: Reader, seeds: list[Files], chunk: Chunk, progress: int, watch: Watch) -> dict[str, Any]:
    """Runs cases, and says what was found.

    Args:
        reader: Reads them.
        seeds: Its valid files.
        chunk: Which cases.
        progress: Descriptor of the file that holds the number of the case that runs.
        watch: Notes what must not happen.
    """
    found: Counter[str] = Counter()
    bad: dict[int, str] = {}
    case = chunk.folder / "case"
    for number in chunk.numbers:
        os.pwrite(progress, number.to_bytes(8, "little"), 0)
        put(reader.case(seeds, chunk.seed, number), case)
        found["header"] += reader.header(case)
        ended = outcome(reader, case, watch)
        found[ended if ended in ("read", "refused") else "bad"] += 1
        if ended not in ("read", "refused") or (ended == "refused" and number < len(seeds)):
            bad[number] = ended
    return {**found, "failures": bad, "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


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
