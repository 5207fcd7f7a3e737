# SPDX-License-Identifier: Apache-2.0
"""The driver for users: an overlay, a program and a graph in, predictions out, as often as wanted (docs/driver.md).

It runs over pynq where pynq is installed and finds a device, else over the emulated overlay without pynq. On a board it
needs numpy and the board's pynq alone.
"""

import contextlib
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.driver import pynq_device
from hetfab.driver.asked_nodes import (
    FusionWeights,
    check_fusion,
    check_only_with_nodes,
    checked_batch,
    checked_nodes,
)
from hetfab.driver.checks import Checks
from hetfab.driver.edges_in_parts import make_parts
from hetfab.driver.energy import Energy, find_meter
from hetfab.driver.graph.feeds import SemanticGraphs
from hetfab.driver.graph.graph_rows import GraphRows
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.host_runs import check_fallback
from hetfab.driver.layer_runs import LayerRuns, RunPlan
from hetfab.driver.node_runs import NodeRuns
from hetfab.driver.package import emulated_package, find_package
from hetfab.driver.scores import F1, f1_scores, predictions
from hetfab.driver.semantic_graphs import program_graphs
from hetfab.driver.session import DEADLINE_SECONDS, Resident, RunResult, Session, check_geometry, checked_seconds
from hetfab.driver.transport import Transport
from hetfab.overlay.bind import bind
from hetfab.overlay.board import read_board
from hetfab.overlay.design import Design
from hetfab.overlay.errors import HetfabError, InputError, OverlayStateError, RunOptionError
from hetfab.overlay.host_nodes import Fallback
from hetfab.overlay.isa.counters import Counters
from hetfab.overlay.package import Kind, Package
from hetfab.overlay.program import Program, read_program
from hetfab.overlay.stage_bytes import segment_bytes


@dataclass(frozen=True, eq=False)
class Prediction:
    """What an inference gave.

    Attributes:
        node_type: Whose rows the predictions are.
        predictions: Class of each node, int64 [rows]; bool [rows, classes] where each class is a decision of its own.
        scores: F1 against the graph's labels, None without labels and of some nodes.
        result: The run: logits, counters, hash of the bound stream.
        nodes: The nodes that were asked for, int64 [rows]; None for all.
    """

    node_type: str
    predictions: npt.NDArray[Any]
    scores: F1 | None
    result: RunResult
    nodes: npt.NDArray[np.int64] | None = None

    @property
    def logits(self) -> npt.NDArray[np.float64]:
        """The logits as numbers of the float model, [rows, classes]."""
        return self.result.values

    @property
    def counters(self) -> Counters:
        """What the engines counted (docs/counters.md)."""
        return self.result.counters

    @property
    def energy(self) -> Energy | None:
        """What the board's power sensors say of the run, None where it has none (docs/driver.md)."""
        return self.result.energy


@dataclass(frozen=True)
class Throughput:
    """Times of repeated inferences on a resident graph. On an emulated overlay they are the host's, not a board's.

    Attributes:
        kind: Emulated, or hardware.
        repeats: Inferences that were timed.
        median_seconds: Of one inference, from its start to its logits.
        smallest_seconds: Of one inference.
        vertices_per_second: Target nodes by the median.
    """

    kind: Kind
    repeats: int
    median_seconds: float
    smallest_seconds: float
    vertices_per_second: float


class HetfabOverlay:
    """An overlay in the fabric, or the emulated one. Use as a context manager. Not safe for several threads.

    It holds one program, and one graph in device memory: a further inference on the same graph moves only the output.

    Args:
        package: Path of an overlay package, or its name (docs/pynq.md); or a design, for its emulated overlay.
        program: As for ``load``.
        device: The pynq device, None for the active one.
        transport: Access to the overlay in another way; it is closed with this object.
        deadline_seconds: How long to wait for each run.
        memory_bytes: Contiguous memory to count on, None for what the board's file says. A graph that needs more is
            run in parts.
        checks: How far runs are checked (docs/faults.md).
        fallback: Whether the host may run operators that a program leaves to it (docs/fallback.md).

    Raises:
        OverlayPackageError: The package is missing, damaged or for another board.
        IsaVersionError: It is of another version of the instruction set.
        GeometryMismatchError: The fabric holds another overlay.
        EnvironmentLacksError: Something is not installed that this overlay needs.
    """

    def __init__(
        self,
        package: Package | Design | Path | str,
        program: Program | Path | str | None = None,
        *,
        device: Any = None,
        transport: Transport | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
        memory_bytes: int | None = None,
        checks: Checks = Checks.MEMORY,
        fallback: Fallback = Fallback.NONE,
    ) -> None:
        self.package = _package(package)
        self._checks = checks
        self.deadline_seconds = checked_seconds(deadline_seconds)
        self.fallback = fallback
        board = read_board(self.package.design.board)
        self.memory_bytes = board.assumed_contiguous_bytes if memory_bytes is None else memory_bytes
        self._program: Program | None = None
        self._graph: HeteroGraph | None = None
        self._resident: Resident | None = None
        self._rows: GraphRows | None = None
        self._in_parts: tuple[LayerRuns, RunPlan] | None = None
        self._stopped = ""
        self.transport = open_transport(self.package, device) if transport is None else transport
        with contextlib.ExitStack() as unless_ready:
            unless_ready.callback(self.transport.close)
            self._session = self._begun()
            if program is not None:
                self.load(program)
            unless_ready.pop_all()

    def __enter__(self) -> "HetfabOverlay":
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        self.close()

    def _begun(self) -> Session:
        meter = find_meter() if self.package.kind is Kind.HARDWARE else None
        return Session(self.transport, self.package.design, checks=self._checks, meter=meter)

    def recover(self) -> None:
        """Loads the overlay again, after a run that failed: the program stays, a graph is to be bound again.

        Raises:
            OverlayStateError: The overlay is closed.
            LoadDeadlineError: Loading does not end.
            DiskFullError: There is no room for what loading writes.
            HetfabError: As when it was opened.
        """
        self._release()
        self._stopped = self._stopped or "it was not loaded again"
        self.transport.reload()
        self._session = self._begun()
        self._stopped = ""

    def close(self) -> None:
        """Frees all memory and lets the overlay go; again is allowed and does nothing."""
        self._release()
        self._stopped = "it was closed"
        self.transport.close()

    @property
    def program(self) -> Program | None:
        """The program that runs, None before ``load``."""
        return self._program

    @property
    def graph(self) -> HeteroGraph | None:
        """The graph in device memory, None before ``bind``."""
        return self._graph

    def load(self, program: Program | Path | str) -> None:
        """Takes the program that the next graph is bound to; a graph that was bound before is freed.

        Args:
            program: A program, or the path of a ``.hfp`` file.

        Raises:
            ProgramUnreadableError: The file is not a program.
            IsaVersionError: It is of another version of the instruction set.
            GeometryMismatchError: It was compiled for another geometry.
            HostFallbackError: It leaves operators to the host, and the host may not run them.
        """
        self._check_usable()
        opened = program if isinstance(program, Program) else read_program(Path(program))
        check_geometry(opened.design, self.package.design)
        check_fallback(opened, self.fallback)
        self._release()
        self._program = opened

    def bind(self, graph: HeteroGraph | Path | str) -> None:
        """Binds the program to a graph and puts both into device memory; the graph before is freed.

        A graph that needs more memory than there is stays with the host: the parts in which it is run are planned.

        Args:
            graph: A graph, or the path of its file. Its arrays must not be changed while it is bound.

        Raises:
            OverlayStateError: No program was loaded.
            InputError: The graph cannot be read, or the program does not fit it.
            LimitExceededError: A row of a layer alone needs more memory than there is; with the bytes.
            DeviceMemoryError: The segments do not fit into the board's contiguous memory.
        """
        self._check_usable()
        if self._program is None:
            raise OverlayStateError("no program was loaded", "a program", "call load(program) first")
        opened = graph if isinstance(graph, HeteroGraph) else read_graph(Path(graph))
        semantic = self._semantic_graphs(opened)
        rows = GraphRows(self._program, opened, semantic)
        if self._program.host_nodes or rows.whole_bytes() > self.memory_bytes:
            runs = LayerRuns(rows, self.memory_bytes)
            plan = runs.plan()
            self._release()
            self._in_parts = runs, plan
        else:
            bound = bind(self._program, rows.arrays(), make_parts=make_parts, side_by_side=True)
            self._release()
            self._resident = self._session.load(bound)
        self._graph, self._rows = opened, rows

    def _semantic_graphs(self, graph: HeteroGraph) -> SemanticGraphs:
        """Those that the program reads and SGB builds; without the engine none: binding composes them."""
        if self._program is None or "sgb" not in self.package.design.geometry.engines:
            return {}
        return program_graphs(self._program, graph, self._session)

    def predict(
        self,
        graph: HeteroGraph | Path | str | None = None,
        *,
        nodes: npt.ArrayLike | None = None,
        fusion: FusionWeights | None = None,
        batch: int | None = None,
        deadline_seconds: float | None = None,
    ) -> Prediction:
        """Runs the program once, or on what some nodes need (docs/nodes.md).

        Args:
            graph: Bound first unless it is the bound one; None for the bound one. A path is always read again.
            nodes: The nodes to predict, whole numbers [n]; None for all.
            fusion: With nodes, the ``fusion_weights`` of a model that weighs its parts by a mean over all nodes.
            batch: How many nodes to predict at once; None for all that were asked for.
            deadline_seconds: Instead of the overlay's.

        Raises:
            OverlayStateError: No program or graph, or the overlay was closed, stopped or replaced.
            NodesUnknownError: The graph lacks a node.
            RunOptionError: The deadline is no time above 0.
            NodesOptionsError: The batch is no whole number above 0, or fusion or batch are given without nodes.
            NodesDependentError: The model takes a mean over all nodes, and no fusion weights were given.
            DeadlineError: The run did not end in time; the text holds DISPATCH's state.
            RunError: The overlay deadlocked or stopped with a fault; memory is freed, and the overlay must be opened
                again.
            HetfabError: As ``bind``.
        """
        seconds = self.deadline_seconds if deadline_seconds is None else checked_seconds(deadline_seconds)
        if nodes is None:
            check_only_with_nodes(fusion=fusion, batch=batch)
        checked_batch(batch)
        bound_graph, rows = self._prepared(graph)
        program = rows.program
        node_type = program.tensor(program.output.tensor).node_type
        asked = None if nodes is None else checked_nodes(nodes, bound_graph, node_type)
        if asked is not None:
            runs = NodeRuns(rows, self._free_bytes(), check_fusion(fusion or {}, program))
            result = self._guarded(
                lambda: runs.predict(self._session, asked, batch=batch, deadline_seconds=seconds).result
            )
        else:
            result = self._run_whole(seconds)
        labels = bound_graph.labels.get(node_type)
        multilabel = labels is not None and labels.ndim == 2
        return Prediction(
            node_type=node_type,
            predictions=predictions(result.values, multilabel=multilabel),
            scores=f1_scores(bound_graph, node_type, result.values) if asked is None else None,
            result=result,
            nodes=asked,
        )

    def fusion_weights(self, graph: HeteroGraph | Path | str | None = None) -> FusionWeights:
        """Runs the program once, layer by layer, for the weights that depend on all nodes.

        Args:
            graph: As for ``predict``.

        Returns:
            int64 [parts, heads] by tensor; empty of a model without such weights.

        Raises:
            HetfabError: As ``predict``.
        """
        _, rows = self._prepared(graph)
        runs = LayerRuns(rows, self._free_bytes())
        plan = runs.plan()
        found: list[FusionWeights] = []

        def run() -> RunResult:
            outcome = runs.run(self._session, plan, deadline_seconds=self.deadline_seconds)
            found.append(outcome.fusion)
            return outcome.result

        self._guarded(run)
        return found[0]

    def _prepared(self, graph: HeteroGraph | Path | str | None) -> tuple[HeteroGraph, GraphRows]:
        """The graph that is bound, after binding one that was given."""
        self._check_usable()
        if graph is not None and graph is not self._graph:
            self.bind(graph)
        if self._graph is None or self._rows is None:
            raise OverlayStateError("no graph is bound", "a graph", "call bind(graph), or predict(graph)")
        return self._graph, self._rows

    def _free_bytes(self) -> int:
        """Contiguous memory beside that of the bound program."""
        held = 0 if self._resident is None else segment_bytes(self._resident.bound.sizes.values())
        return self.memory_bytes - held

    def throughput_test(self, repeats: int = 10) -> Throughput:
        """Times inferences on the bound graph, after one that is not counted.

        Args:
            repeats: At least 1.

        Raises:
            RunOptionError: There is no repetition.
            HetfabError: As ``predict``.
        """
        if repeats < 1:
            raise RunOptionError(f"{repeats} repetitions", "at least 1", "give a larger number")
        rows = len(self.predict().predictions)
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            self.predict()
            seconds.append(time.perf_counter() - begin)
        median = statistics.median(seconds)
        return Throughput(self.package.kind, repeats, median, min(seconds), rows / median)

    def state_dump(self) -> str:
        """DISPATCH's state in words.

        Raises:
            OverlayStateError: The overlay is closed.
        """
        self.transport.check_loaded()
        return self._session.state_dump()

    def _run_whole(self, deadline_seconds: float) -> RunResult:
        """All nodes of the bound graph."""
        if self._in_parts is not None:
            runs, plan = self._in_parts
            return self._guarded(lambda: runs.run(self._session, plan, deadline_seconds=deadline_seconds).result)
        resident = self._resident
        if resident is None:
            raise OverlayStateError("no graph is bound", "a graph", "call bind(graph), or predict(graph)")
        return self._guarded(lambda: resident.run(deadline_seconds=deadline_seconds))

    def _guarded(self, run: Callable[[], RunResult]) -> RunResult:
        """A run, after whose failure the overlay refuses to run."""
        self._stopped = "a run was interrupted"
        try:
            result = run()
        except InputError:
            self._stopped = ""
            raise
        except HetfabError as error:
            self._stopped = f"a run failed ({error.code})"
            raise
        else:
            self._stopped = ""
        finally:
            if self._stopped:
                self._release()
        return result

    def _release(self) -> None:
        resident, self._resident, self._graph = self._resident, None, None
        self._rows, self._in_parts = None, None
        if resident is not None:
            resident.free()

    def _check_usable(self) -> None:
        if self._stopped:
            raise OverlayStateError(
                f"the overlay '{self.package.name}' cannot run: {self._stopped}",
                "an open overlay",
                "load it again with recover(), or open it again",
            )


def _package(given: Package | Design | Path | str) -> Package:
    if isinstance(given, Design):
        return emulated_package(given)
    return given if isinstance(given, Package) else find_package(given)


def open_transport(package: Package, device: Any = None) -> Transport:
    """Loads a package's overlay over pynq where pynq has a device, else over the emulated overlay without pynq.

    Raises:
        OverlayStateError: There is no device, and the package is for a board.
        HetfabError: As ``HetfabOverlay``.
    """
    if device is not None or _pynq_has_a_device():
        from hetfab.driver.pynq_transport import PynqTransport

        return PynqTransport(package.bit, device)
    if package.kind is Kind.HARDWARE:
        raise OverlayStateError(
            f"the overlay '{package.name}' is a bitstream, and pynq finds no device here",
            "a board with pynq",
            "run this on the board, or use the package of an emulated overlay",
        )
    from hetfab.driver.emulated import EmulatedTransport

    return EmulatedTransport(package.design)


def _pynq_has_a_device() -> bool:
    if importlib.util.find_spec("pynq") is None:
        return False
    if pynq_device.selected():
        pynq_device.register()
    with warnings.catch_warnings():
        # Without a board, pynq warns on import and when it looks for devices.
        warnings.simplefilter("ignore")
        from pynq import Device

        return bool(Device.devices)
