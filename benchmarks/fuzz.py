# SPDX-License-Identifier: Apache-2.0
"""Fuzzes every reader with mutations of valid files (docs/fuzzing.md): counts crashes, hangs and errors without a type.

Each reader runs in processes of its own. A run is resumed where it was interrupted (``--resume``), and gives the same
cases for the same seed. Files of failures stay in ``FOLDER/failures``.
"""

import argparse
import ast
import inspect
import json
import multiprocessing
import os
import shutil
import tempfile
import textwrap
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from benchmarks.fuzz_readers import READERS, Code, Reader
from benchmarks.fuzz_worker import Chunk, put, work
from benchmarks.report import Report, argument_parser, publish

#: Cases of a process: after that many another one begins, and what was found is kept.
_CHUNK = 10_000
_POLL_SECONDS = 0.05
#: How many times as long as its processor time a case may take that waits.
_WAITING = 30
#: Processes are forked from one that has imported everything.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["benchmarks.fuzz_worker"])


@dataclass
class Found:
    """What the cases of a reader ended in.

    Attributes:
        cases: How many ran.
        header: How many passed the first check of their form.
        read: How many were read.
        refused: How many ended in an error of hetfab.
        crashes: How many ended their process.
        hangs: How many did not end.
        untyped_errors: How many ended otherwise, or did what a reader must not do.
        peak_kib: Largest memory of a process.
        failures: What cases ended in, by number.
    """

    cases: int = 0
    header: int = 0
    read: int = 0
    refused: int = 0
    crashes: int = 0
    hangs: int = 0
    untyped_errors: int = 0
    peak_kib: int = 0
    failures: dict[str, str] = field(default_factory=dict)


class Fuzzing:
    """Cases of one reader, in processes that may fail.

    Args:
        reader: The reader.
        seed: Of its mutations.
        folder: Keeps its state and failures.
        hang_seconds: Processor time that a case may take.
        covered: Cases whose lines are traced, the first ones; 0 for none.
    """

    def __init__(self, reader: Reader, seed: int, folder: Path, hang_seconds: float, covered: int) -> None:
        self._reader, self._seed, self._folder = reader, seed, folder
        self._hang_seconds, self._covered = hang_seconds, covered
        self._state = folder / f"{reader.name}.json"
        self._seeds: list[Any] = []
        self._last_place = b""
        self.found = Found(**json.loads(self._state.read_text())) if self._state.exists() else Found()

    def run(self, cases: int) -> Found:
        """Runs those of the first ``cases`` that did not run yet."""
        while self.found.cases < cases:
            first = self.found.cases
            last = min(first + _CHUNK, cases)
            if first < self._covered:
                last = min(last, self._covered)
            self._chunk(first, last)
            self._state.write_text(json.dumps(asdict(self.found)))
        return self.found

    def coverage_file(self, first: int) -> Path:
        """Where a process that begins with a case keeps its lines."""
        return self._folder / "coverage" / f"{self._reader.name}.{first}"

    def _chunk(self, first: int, last: int) -> None:
        covered = self.coverage_file(first) if first < self._covered else None
        if covered is not None:
            covered.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="hetfab-fuzz-", dir=_memory_folder()) as folder:
            chunk = Chunk(self._reader.name, self._seed, range(first, last), Path(folder), covered)
            chunk.place.write_bytes(first.to_bytes(8, "little"))
            process = _PROCESSES.Process(target=work, args=(chunk,))
            process.start()
            hung = self._watch(process, chunk.place)
            output = chunk.output.read_text(errors="replace") if chunk.output.exists() else ""
            said = json.loads(chunk.found.read_text()) if process.exitcode == 0 else {}
        at = int.from_bytes(self._last_place, "little")
        if process.exitcode == 0:
            self._add(last - first, said)
            return
        if not hung and (process.exitcode or 0) > 0:
            raise SystemExit(f"the worker of '{self._reader.name}' failed at case {at}:\n{output}")
        # What ran before the case is lost with its process: it runs again, without the case.
        if at > first:
            self._chunk(first, at)
        self.found.cases += 1
        self.found.hangs += hung
        self.found.crashes += not hung
        self._keep(at, "hang" if hung else f"crash by signal {-(process.exitcode or 0)}")

    def _watch(self, process: ForkServerProcess, place: Path) -> bool:
        """Waits for a process; ends it where a case takes too long, and says so."""
        self._last_place = place.read_bytes()
        # The first case comes after the seeds are made.
        begun, since, factor = _processor_seconds(process.pid), time.monotonic(), 30
        while process.exitcode is None:
            process.join(_POLL_SECONDS)
            now, spent = place.read_bytes(), _processor_seconds(process.pid)
            if now and now != self._last_place:
                self._last_place, begun, since, factor = now, spent, time.monotonic(), 1
            # Processor time, because others may take the machine; who waits for nothing takes none.
            waited = time.monotonic() - since > _WAITING * factor * self._hang_seconds
            if waited or spent - begun > factor * self._hang_seconds:
                process.kill()
                process.join()
                return True
        self._last_place = place.read_bytes() or self._last_place
        return False

    def _add(self, cases: int, said: dict[str, Any]) -> None:
        found = self.found
        found.cases += cases
        found.header += said.get("header", 0)
        found.read += said.get("read", 0)
        found.refused += said.get("refused", 0)
        found.untyped_errors += len(said["failures"])
        found.peak_kib = max(found.peak_kib, said["peak_kib"])
        for number, ended in said["failures"].items():
            self._keep(int(number), ended)

    def _keep(self, number: int, ended: str) -> None:
        self.found.failures[str(number)] = ended
        self._seeds = self._seeds or self._reader.seeds()
        target = self._folder / "failures" / f"{self._reader.name}-{number}"
        put(self._reader.case(self._seeds, self._seed, number), target)
        (target / "ended.txt").write_text(ended + "\n")


def _processor_seconds(process: int | None) -> float:
    """Processor time of a process that may have ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def covered_share(reader: Reader, folder: Path) -> tuple[int, int, list[str]]:
    """Lines of a reader's code that ran, all of them, and where the others are."""
    import coverage

    data = [str(path) for path in sorted((folder / "coverage").glob(f"{reader.name}.*"))]
    tracer = coverage.Coverage(data_file=None)
    merged = tracer.get_data()
    for path in data:
        each = coverage.CoverageData(path)
        each.read()
        merged.update(each)
    ran = total = 0
    missing: list[str] = []
    for code in reader.code:
        _, statements, _, absent, _ = tracer.analysis2(code.module.__file__)
        wanted = _lines(code) & set(statements)
        total += len(wanted)
        ran += len(wanted - set(absent))
        missing += [f"{Path(code.module.__file__).name}:{line}" for line in sorted(wanted & set(absent))]
    return ran, total, missing


def _lines(code: Code) -> set[int]:
    """Lines inside the functions that are a reader's."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(inspect.getsource(code.module))):
        if (
            isinstance(node, ast.FunctionDef)
            and (not code.only or node.name in code.only)
            and node.name not in code.without
        ):
            found |= {line for part in node.body for line in range(part.lineno, (part.end_lineno or 0) + 1)}
    return found


def _memory_folder() -> str | None:
    """A folder in memory, where there is one: cases are written and read at once."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def measure(arguments: argparse.Namespace) -> Report:
    """Fuzzes the readers that were asked for."""
    folder: Path = arguments.folder or Path(tempfile.mkdtemp(prefix="hetfab-fuzz-"))
    if not arguments.resume:
        for name in ("failures", "coverage"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in READERS:
            (folder / f"{name}.json").unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[list[object]] = []
    total: Counter[str] = Counter()
    values: dict[str, Any] = {}
    for name in arguments.reader or READERS:
        reader = READERS[name]
        fuzzing = Fuzzing(reader, arguments.seed, folder, arguments.hang_seconds, arguments.covered)
        found = fuzzing.run(arguments.cases)
        entry = {key: value for key, value in asdict(found).items() if key not in ("failures", "peak_kib")}
        total.update(entry)
        entry |= {"header_share": round(found.header / max(found.cases, 1), 3), "peak_mb": found.peak_kib // 1024}
        if arguments.covered:
            ran, lines, missing = covered_share(reader, folder)
            entry |= {"line_coverage": round(ran / max(lines, 1), 3), "lines_missing": missing}
        values[name] = entry
        rows.append([name, *(entry.get(key, "-") for key in _COLUMNS)])
    summed = {key: total[key] for key in ("cases", "crashes", "hangs", "untyped_errors")}
    peak = max(entry["peak_mb"] for entry in values.values())
    title = f"Readers on mutated files, seed {arguments.seed} (failures in {folder / 'failures'})"
    return Report(title, ["reader", *_COLUMNS], rows, {**summed, "peak_mb": peak, "readers": values})


_COLUMNS = (
    "cases",
    "header_share",
    "read",
    "refused",
    "crashes",
    "hangs",
    "untyped_errors",
    "peak_mb",
    "line_coverage",
)


def main() -> None:
    """Runs the benchmark."""
    parser = argument_parser(textwrap.dedent(__doc__ or ""))
    parser.add_argument("--cases", type=int, default=2_000, help="of each reader (100,000 by hand)")
    parser.add_argument("--reader", action="append", choices=list(READERS), help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for state and failures; a new temporary one when left out")
    parser.add_argument("--resume", action="store_true", help="go on where a run in this folder stopped")
    parser.add_argument("--covered", type=int, default=0, metavar="N", help="trace the lines of the first N cases")
    parser.add_argument("--hang-seconds", type=float, default=10.0, help="processor time that a case may take")
    arguments = parser.parse_args()
    report = measure(arguments)
    publish(report, arguments.as_json)
    if any(report.values[key] for key in ("crashes", "hangs", "untyped_errors")):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
