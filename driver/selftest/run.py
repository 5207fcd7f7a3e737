# SPDX-License-Identifier: Apache-2.0
"""Runs the vectors of the self-test on an overlay, finds the first difference and the engine that explains it."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hetfab.driver.loaded_stream import LoadedStream
from hetfab.driver.selftest.blame import Suspect, suspects
from hetfab.driver.selftest.draft import Bytes, Tensor, Vector
from hetfab.driver.session import Session
from hetfab.overlay.errors import DeviceMemoryError, OverlayStateError, RunError, SelftestFailedError, counted
from hetfab.overlay.isa.codec import RegisterOffset, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack

#: A vector has few instructions; more time means that one of them does not end.
DEADLINE_SECONDS = 10.0
#: Whose writes go to a segment. Graphs are written by the engine that a vector is for.
_WRITERS = {Segment.OUTPUT: "store", Segment.SPILL: "agg"}


@dataclass(frozen=True)
class Difference:
    """The first number of a vector that is not what the golden model gives.

    Attributes:
        engine: Engine of the instruction that the vector is for.
        instruction: That instruction.
        mode: What is special about the vector.
        tensor: Where the number is: a tensor's name, or a segment's.
        row: Its row; of a segment the block.
        column: Its column; of a segment the byte in the block.
        found: What the overlay gave; None where it gave nothing.
        expected: What the golden model gives.
        message: What stopped the run, in words; empty where it ended.
    """

    engine: str
    instruction: str
    mode: str
    tensor: str = ""
    row: int = 0
    column: int = 0
    found: int | None = None
    expected: int | None = None
    message: str = ""

    def text(self) -> str:
        """In words."""
        if self.message:
            return f"{self.mode}: the run stopped: {self.message}"
        return f"{self.mode}: {self.tensor}, row {self.row}, column {self.column}: {self.found}, not {self.expected}"


@dataclass(frozen=True)
class Outcome:
    """What a self-test found.

    Attributes:
        vectors: Number of vectors by engine.
        failed: Of these, how many gave another result.
        differences: The first difference of each vector that failed, in the order of the instruction set.
        suspects: Engines that explain the failures, the best first; empty where none failed.
    """

    vectors: Mapping[str, int]
    failed: Mapping[str, int]
    differences: tuple[Difference, ...]
    suspects: tuple[Suspect, ...]

    @property
    def first(self) -> Difference | None:
        """The difference that is shown first: that of a vector for the engine suspected most, if it has one."""
        if not self.differences:
            return None
        suspect = self.suspects[0]
        of_engine = [difference for difference in self.differences if difference.engine == suspect.engine]
        named = [difference for difference in of_engine if difference.instruction == suspect.instruction]
        return (named or of_engine or list(self.differences))[0]

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        first = self.first
        return {
            "vectors": dict(self.vectors),
            "failed": dict(self.failed),
            "suspects": [asdict(suspect) for suspect in self.suspects],
            "first": None if first is None else asdict(first),
            "differences": [asdict(difference) for difference in self.differences],
        }

    def check(self) -> None:
        """Ends in words where a vector failed.

        Raises:
            SelftestFailedError: One did; it names the engine suspected most, and the first difference.
        """
        first = self.first
        if first is None:
            return
        suspect = self.suspects[0]
        part = " ".join(filter(None, [suspect.instruction, suspect.mode])) or "no single instruction"
        failed, total = sum(self.failed.values()), sum(self.vectors.values())
        others = ", ".join(other.engine for other in self.suspects[1:] if other.share == suspect.share)
        raise SelftestFailedError(
            f"{failed} of {counted(total, 'vector')} differ; the engine '{suspect.engine}' explains it best: {part}"
            + (f" (so would {others})" if others else "")
            + f"\n{first.text()}",
            "what the golden model gives, in every bit",
            "load the overlay again and repeat; if this stays, the overlay was built wrong or its clock is too fast",
            self.as_dict(),
        )


class Bench:
    """An overlay that runs vectors, and is opened again after a run that stopped. Use as a context manager.

    Args:
        open_session: Opens the overlay.
    """

    def __init__(self, open_session: Callable[[], Session]) -> None:
        self._open = open_session
        self._session: Session | None = None

    def __enter__(self) -> "Bench":
        """Returns itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the overlay."""
        self.close()

    def close(self) -> None:
        """Lets the overlay go; again is allowed and does nothing."""
        session, self._session = self._session, None
        if session is not None:
            session.transport.close()

    def opened(self) -> Session:
        """The overlay, opened where it is not.

        Raises:
            HetfabError: It cannot be opened.
        """
        if self._session is None:
            self._session = self._open()
        return self._session

    def run(self, vector: Vector, deadline_seconds: float = DEADLINE_SECONDS) -> dict[Segment, Bytes]:
        """Runs a vector.

        Returns:
            The segments after it, and as that of programs the counts of all semaphores, which end at zero.

        Raises:
            RunError: The run did not end.
            HetfabError: As ``opened``.
        """
        session = self.opened()
        program = pack(vector.words).view(np.uint8).reshape(-1)
        contents = {Segment.PROGRAM: program, **vector.contents}
        sizes = {segment: len(content) for segment, content in contents.items()}
        with contextlib.ExitStack() as held:
            held.callback(self._drop_if_stopped)
            self._stopped = True
            # Registers and memory are what is compared with the golden model.
            stream = LoadedStream(session, len(vector.words), contents, sizes, kept=(), checks_end=False)
            held.callback(stream.free)
            stream.run(deadline_seconds)
            found = {segment: stream.read(segment)[: sizes[segment]].copy() for segment in vector.contents}
            self._stopped = False
        read = session.transport.read_register
        counts = [read(RegisterOffset[f"SEMAPHORE_{number}"]) for number in range(isa().semaphores + 1)]
        found[Segment.PROGRAM] = np.array(counts, "<u4").view(np.uint8)
        return found

    def _drop_if_stopped(self) -> None:
        """An overlay hangs after a run that did not end, until it is loaded again."""
        if self._stopped:
            self.close()


def selftest(
    open_session: Callable[[], Session],
    vectors: Sequence[Vector],
    *,
    progress: Callable[[int], None] = lambda steps: None,
) -> Outcome:
    """Runs vectors and compares what they leave in DRAM with the golden model.

    Args:
        open_session: Opens the overlay; called again after a run that did not end.
        vectors: Those of its design.
        progress: Called after each vector.

    Raises:
        HetfabError: The overlay cannot be opened.
    """
    differences: dict[int, Difference] = {}
    misplaced: Counter[str] = Counter()
    with Bench(open_session) as bench:
        for place, vector in enumerate(vectors):
            bench.opened()
            try:
                found = bench.run(vector)
            except (DeviceMemoryError, OverlayStateError):
                raise
            except RunError as error:
                differences[place] = _of(vector, message=error.found)
            else:
                difference = next(_differences(vector, found), None)
                if difference is not None:
                    differences[place] = difference
                    misplaced.update(_misplaced(vector, found))
            progress(1)
    failed = [vectors[place] for place in differences]
    passed = [vector for place, vector in enumerate(vectors) if place not in differences]
    return Outcome(
        vectors=Counter(vector.engine for vector in vectors),
        failed=Counter(vector.engine for vector in failed),
        differences=tuple(differences.values()),
        suspects=suspects(failed, passed, misplaced) if failed else (),
    )


def _of(vector: Vector, **found: Any) -> Difference:
    return Difference(engine=vector.engine, instruction=vector.operation, mode=vector.name, **found)


def _differences(vector: Vector, found: Mapping[Segment, Bytes]) -> Iterator[Difference]:
    """Differences in the tensors in their order, then elsewhere in the segments, then in the semaphores."""
    for tensor in vector.tensors:
        ours, theirs = (_numbers(tensor, content[tensor.segment]) for content in (found, vector.expected))
        for row, column in np.argwhere(ours != theirs)[:1].tolist():
            yield _of(
                vector, tensor=tensor.name, row=row, column=column, found=int(ours[row, column]),
                expected=int(theirs[row, column]),
            )  # fmt: skip
    for segment, expected in vector.expected.items():
        for place in np.flatnonzero(found[segment] != expected)[:1].tolist():
            row, column = divmod(place, isa().block_bytes)
            yield _of(
                vector, tensor=f"block of the segment '{segment.name.lower()}'", row=row, column=column,
                found=int(found[segment][place]), expected=int(expected[place]),
            )  # fmt: skip
    counts = found[Segment.PROGRAM].view("<u4")
    for semaphore in np.flatnonzero(counts)[:1].tolist():
        yield _of(vector, tensor="semaphores", column=semaphore, found=int(counts[semaphore]), expected=0)


def _numbers(tensor: Tensor, content: Bytes) -> np.ndarray[Any, Any]:
    rows = content[tensor.offset : tensor.offset + tensor.rows * tensor.stride].reshape(tensor.rows, tensor.stride)
    length = tensor.columns * np.dtype(tensor.dtype).itemsize
    return np.ascontiguousarray(rows[:, :length]).view(tensor.dtype)


def _misplaced(vector: Vector, found: Mapping[Segment, Bytes]) -> set[str]:
    """The engines that wrote where nothing was to be written, or nothing where something was."""
    engines = set()
    for segment, expected in vector.expected.items():
        before = vector.contents[segment]
        differing = found[segment] != expected
        elsewhere = differing & ((before == expected) | (before == found[segment]))
        if 2 * np.count_nonzero(elsewhere) > np.count_nonzero(differing):
            engines.add(_WRITERS.get(segment, vector.engine))
    return engines
