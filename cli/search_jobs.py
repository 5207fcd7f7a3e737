# SPDX-License-Identifier: Apache-2.0
"""What a search evaluates, as picklable jobs: any process that can read the files may do one.

A process opens each model once, whatever the number of its jobs.
"""

import enum
import functools
import hashlib
import math
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hetfab.cli.automatic_bits import Subject, graph_subject, sample_subject
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.planning import plan_layers
from hetfab.overlay.design import Design
from hetfab.overlay.errors import DesignTooSmallError
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.cnn.integer import IntegerCnn
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.reader import bindings_of
from hetfab.overlay.search.layer_work import PACKED_BITS, LayerWork, graph_works, image_works, row_counts
from hetfab.quantize.assignment import Assignment
from hetfab.quantize.bit_assignment import digest
from hetfab.quantize.joint_options import REFERENCES, Reference, tensor_of

if TYPE_CHECKING:
    import onnx

    from hetfab.driver.graph.heterograph import HeteroGraph
    from hetfab.overlay.compiler.graph_facts import GraphFacts


#: Networks on samples that are kept as integers, which are large.
_NETWORKS = 3


@dataclass(frozen=True)
class Source:
    """A float model and what it runs on.

    Attributes:
        model: The file.
        workload: A graph, or samples.
        bindings: File with the meaning of inputs, None where their names say it.
        shared: Folder where processes that evaluate share what takes long, None where there is none.
    """

    model: Path
    workload: Path
    bindings: Path | None = None
    shared: Path | None = None

    def content(self) -> str:
        """Hash of what the files hold, which is all that rounded weights depend on."""
        files = [path for path in (self.model, self.workload, self.bindings) if path is not None]
        return hashlib.sha256(repr([hashlib.sha256(path.read_bytes()).digest() for path in files]).encode()).hexdigest()


class Action(enum.Enum):
    """What is asked of an assignment."""

    DIVERGENCE = "divergence"
    DROP = "drop"
    ROUNDING = "rounding"
    SCORE = "score"
    TIME = "time"
    TIME_IF_HELD = "time if held"
    LAYER_TIMES = "layer times"
    REFERENCE = "reference"
    PLAN = "plan"


@dataclass(frozen=True)
class Job:
    """An evaluation.

    Attributes:
        source: The model.
        action: What is asked.
        assignment: The widths.
        design: To time on; None for the one that ``compile`` takes.
    """

    source: Source
    action: Action
    assignment: Assignment
    design: Design | None = None


@dataclass(frozen=True, eq=False)
class Planned:
    """Layers of a quantized model, and the rows of each node type."""

    layers: LoweredModel
    rows: Mapping[str, int]

    def cycles(self, design: Design) -> float:
        """Of the compiler's cuts of all layers, by its estimate; infinite where none fits the design."""
        try:
            planned = plan_layers(self.layers, design.geometry)
        except DesignTooSmallError:
            return math.inf
        types = self.layers.node_types
        return sum(each.tile.row_cycles * self.rows[types[each.layer.output.name]] for each in planned)


@dataclass(frozen=True, eq=False)
class Opened:
    """A model under study.

    Attributes:
        subject: The study, and how accuracy is counted.
        graph: What it runs on, None for samples.
    """

    subject: "Subject[Any]"
    graph: "HeteroGraph | None"
    _integers: OrderedDict[str, IntegerCnn] = field(default_factory=OrderedDict)

    def score(self, assignment: Assignment) -> dict[str, float]:
        """Points lost and divergence, of one run of the whole model."""
        study = self.subject.study
        compared = study.compared_logits(assignment)
        return {
            "drop": self.subject.loss.points(np.concatenate(compared)),
            "divergence": study.divergence_of(compared),
        }

    def layer_milliseconds(self, assignment: Assignment, design: Design | None) -> Mapping[str, float]:
        """Modelled time of the whole program by layer's result."""
        from hetfab.driver.modelled_time import layer_milliseconds, layer_milliseconds_on_samples

        if self.graph is None:
            return layer_milliseconds_on_samples(self.integers(assignment), design)
        return layer_milliseconds(self.quantized(assignment), self.graph, design, self.facts)

    def integers(self, assignment: Assignment) -> IntegerCnn:
        """Integer layers of a network on samples; of the last few, which are asked for with several designs, kept."""
        key = digest(assignment)
        if key not in self._integers:
            self._integers[key] = read_integers(self.quantized(assignment).model)
            while len(self._integers) > _NETWORKS:
                self._integers.popitem(last=False)
        self._integers.move_to_end(key)
        return self._integers[key]

    def milliseconds(self, assignment: Assignment, design: Design | None) -> float:
        """The same of all."""
        return sum(self.layer_milliseconds(assignment, design).values())

    def milliseconds_if_held(self, assignment: Assignment, design: Design | None) -> float:
        """The same, infinite where the design does not hold the program."""
        try:
            return self.milliseconds(assignment, design)
        except DesignTooSmallError:
            return math.inf

    def planned(self, assignment: Assignment, design: Design) -> "Planned | None":
        """The layers as the compiler takes them for a design; None of a network on samples."""
        from hetfab.overlay.compiler.model_plan import plan_model

        if self.graph is None:
            return None
        given = self.quantized(assignment)
        found = plan_model(lower(given.model, given.bindings), design, self.facts).lowered
        return Planned(found, row_counts(found, self.graph.counts))

    def quantized(self, assignment: Assignment) -> BoundModel:
        """The quantized model."""
        model: onnx.ModelProto = self.subject.study.write(assignment)
        return BoundModel(model, bindings_of(model))

    @cached_property
    def facts(self) -> "GraphFacts | None":
        """What is known of the graph, the same for all widths; None for samples."""
        from hetfab.driver.graph.facts import graph_facts

        if self.graph is None:
            return None
        assert isinstance(self.layers, LoweredModel)
        return graph_facts(self.graph, self.layers)

    @cached_property
    def widest(self) -> BoundModel:
        """The model at the first of ``REFERENCES``."""
        return self.quantized(self.reference_assignments()[0])

    @cached_property
    def layers(self) -> LoweredModel | IntegerCnn:
        """Its integer layers."""
        return layers_of(self.widest, self.graph)

    def reference_assignments(self) -> tuple[Assignment, Assignment]:
        """``REFERENCES``, rounded to nearest."""
        eight, four = (
            self.subject.study.uniform(widths, weights="nearest", activations="least square error")
            for widths in REFERENCES
        )
        return eight, four


@functools.lru_cache(maxsize=8)
def opened(source: Source) -> Opened:
    """Opens a model; a process keeps it.

    Raises:
        InputError: A file cannot be read, or they do not belong together.
    """
    from hetfab.driver.graph.formats import read_graph
    from hetfab.driver.graph.model_inputs import open_model
    from hetfab.driver.samples import open_with_samples
    from hetfab.overlay.model.binding import read_bindings

    bindings = None if source.bindings is None else read_bindings(source.bindings)
    if _holds_samples(source.workload):
        found = Opened(sample_subject(*open_with_samples(source.model, source.workload, bindings), None), None)
    else:
        graph = read_graph(source.workload)
        found = Opened(graph_subject(open_model(source.model, graph, bindings), graph, None), graph)
    if source.shared is not None:
        found.subject.study.roundings.folder = source.shared / source.content()
    return found


def open_all(sources: Sequence[Source]) -> None:
    """Opens models before they are asked for, and looks at their graphs."""
    for source in sources:
        _ = opened(source).facts


def _holds_samples(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as file:
            return "samples.npy" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False  # The reader of graphs says what is wrong with it.


def evaluate(job: Job) -> Any:
    """The result of a job, a value that JSON has a form for; of a plan, ``Planned`` or None."""
    found = opened(job.source)
    match job.action:
        case Action.DIVERGENCE:
            return float(found.subject.study.divergence(job.assignment))
        case Action.DROP:
            return float(found.subject.drop(job.assignment))
        case Action.ROUNDING:
            found.subject.study.numbers(job.assignment)
            return None
        case Action.SCORE:
            return found.score(job.assignment)
        case Action.TIME:
            return found.milliseconds(job.assignment, job.design)
        case Action.TIME_IF_HELD:
            return found.milliseconds_if_held(job.assignment, job.design)
        case Action.LAYER_TIMES:
            return dict(found.layer_milliseconds(job.assignment, job.design))
        case Action.REFERENCE:
            assert job.design is not None
            return as_json(reference_of(found.quantized(job.assignment), found.graph, job.design, found.facts))
        case Action.PLAN:
            assert job.design is not None
            return found.planned(job.assignment, job.design)


def layers_of(given: BoundModel, graph: "HeteroGraph | None") -> LoweredModel | IntegerCnn:
    """Integer layers of a quantized model."""
    return read_integers(given.model) if graph is None else lower(given.model, given.bindings)


def works_of(layers: LoweredModel | IntegerCnn, graph: "HeteroGraph | None") -> dict[str, LayerWork]:
    """What the layers with weights ask for, by ``tensor_of`` their results."""
    if isinstance(layers, IntegerCnn):
        found = image_works(layers)
    else:
        assert graph is not None
        found = graph_works(layers, graph.counts)
    return {tensor_of(name): replace(work, result=tensor_of(name)) for name, work in found.items()}


def reference_of(
    given: BoundModel, graph: "HeteroGraph | None", design: Design, facts: "GraphFacts | None" = None
) -> Reference:
    """Times of a quantized model on the reference design."""
    from hetfab.driver.modelled_time import layer_profile, layer_profile_on_samples

    layers = layers_of(given, graph)
    if isinstance(layers, IntegerCnn):
        profile = layer_profile_on_samples(layers, design)
    else:
        assert graph is not None
        profile = layer_profile(given, graph, design, facts)
    path, aggregation = (
        {tensor_of(name): spent for name, spent in each.items()} for each in (profile.path, profile.aggregation)
    )
    return Reference(path, aggregation, _packed_inputs(layers))


def _packed_inputs(layers: LoweredModel | IntegerCnn) -> frozenset[str]:
    """Layers with weights whose input is stored two values a byte, as ``Reference`` names them."""
    if isinstance(layers, IntegerCnn):
        narrow = [
            each for each in layers.products() if each.input.bits <= PACKED_BITS and each.input is not layers.input
        ]
        return frozenset(tensor_of(layer.output.name) for layer in narrow)
    return frozenset(
        tensor_of(layer.output.name)
        for layer in layers.layers
        if layer.product is not None and layer.product.input.name in layers.packed
    )


def as_json(reference: Reference) -> Mapping[str, Any]:
    """A reference for the journal."""
    return {
        "path": dict(reference.path),
        "aggregation": dict(reference.aggregation),
        "packed": sorted(reference.packed),
    }


def from_json(table: Mapping[str, Any]) -> Reference:
    """The same from the journal."""
    return Reference(table["path"], table["aggregation"], frozenset(table["packed"]))
