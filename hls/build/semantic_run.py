# SPDX-License-Identifier: Apache-2.0
"""Runs a plan of semantic graphs on an emulated overlay: its stream of SGB instructions, on a DRAM of huge pages."""

import mmap
from collections.abc import Mapping
from types import TracebackType

import numpy as np

from hetfab.hls.build.emulator import Emulator, Progress, build_emulator
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import EngineFaultError
from hetfab.overlay.isa.codec import RegisterOffset, Segment
from hetfab.overlay.layouts import padded
from hetfab.overlay.semantic.adjacency import Adjacency
from hetfab.overlay.semantic.plan import Plan
from hetfab.overlay.semantic.stream import graph_segment, semantic_stream

_SEGMENT_DISTANCE = 1 << 33
_STEPS = 1_000


class SemanticRun:
    """A plan's stream and its relations in the DRAM of an emulated overlay. Use it as a context manager.

    Attributes:
        stream: The instructions, and where graphs are.
        emulator: The overlay; its run log is that of the last run.
    """

    def __init__(self, plan: Plan, relations: Mapping[str, Adjacency], geometry: Geometry) -> None:
        """Builds the overlay and writes program and relations.

        Args:
            plan: What to build.
            relations: Each relation by name, without duplicate edges.
            geometry: Of a design with the engine sgb.

        Raises:
            DesignTooSmallError: The design cannot build the plan.
            CompilerMissingError: No C++ compiler.
        """
        self.stream = semantic_stream(plan, relations, geometry)
        self._plan = plan
        self._dram = mmap.mmap(-1, padded(self.stream.size + 1, mmap.PAGESIZE), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._dram.madvise(mmap.MADV_HUGEPAGE)
        self._graphs = np.frombuffer(self._dram, np.uint8)
        graph_segment(self.stream, relations, self._graphs)
        self.emulator = Emulator(build_emulator(geometry), geometry)
        # One engine executes its instructions in order: there is nothing to compare.
        self.emulator.check_order(False)
        self._map(Segment.PROGRAM, self.stream.words.reshape(-1).view(np.uint8).copy())
        self._map(Segment.GRAPH, self._graphs)
        self.emulator.write_register(RegisterOffset.PROGRAM_LENGTH, len(self.stream.words))

    def __enter__(self) -> "SemanticRun":
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the overlay."""
        self.emulator.close()

    def run(self) -> None:
        """Executes the stream, from the start register to the last token.

        Raises:
            EngineFaultError: The overlay stopped.
        """
        self.emulator.write_register(RegisterOffset.CONTROL, 1)
        progress = Progress.RUNNING
        while progress is Progress.RUNNING:
            progress = self.emulator.advance(_STEPS)
        if progress is not Progress.DONE:
            raise EngineFaultError(
                f"the overlay stopped: {self.emulator.message()}",
                "semantic graphs that fit their places",
                "plan again with these relations, or report this with the graph",
            )

    def release(self) -> None:
        """Gives back the memory of what was built: the next run finds fresh pages."""
        self._dram.madvise(mmap.MADV_DONTNEED, self.stream.read_bytes)

    def outputs(self) -> dict[str, Adjacency]:
        """Copies of the semantic graphs by metapath, after a run."""
        return {name: self.stream.places[path].read(self._graphs) for name, path in self._plan.outputs.items()}

    def _map(self, segment: Segment, content: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> None:
        base = _SEGMENT_DISTANCE * (1 + segment.value)
        self.emulator.map_memory(base, content)
        for name, value in ((f"SEGMENT_BASE_{segment.name}", base), (f"SEGMENT_SIZE_{segment.name}", len(content))):
            self.emulator.write_register(RegisterOffset[f"{name}_LOW"], value & 0xFFFF_FFFF)
            self.emulator.write_register(RegisterOffset[f"{name}_HIGH"], value >> 32)
