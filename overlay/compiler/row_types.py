# SPDX-License-Identifier: Apache-2.0
"""Finds whose nodes the rows of each stored tensor are, and which stacks of node types there are."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hetfab.overlay.compiler.lowered import Additive, Aggregation, HostStep, LoweredLayer, StackPart, Stored
from hetfab.overlay.errors import ModelStructureError
from hetfab.overlay.model.binding import Binding, Features
from hetfab.overlay.program import EdgePattern, Edges, Stack


def stack_of(types: Sequence[str]) -> Stack:
    """The stack of node types in an order."""
    return Stack(" + ".join(types), tuple(types))


def rows_alone(count: int) -> Stack:
    """So many rows that are no nodes: edge types, parts of a stack."""
    return Stack(f"{count} rows", (), count)


@dataclass(frozen=True, eq=False)
class RowTypes:
    """What was found.

    Attributes:
        types: Of each tensor by name, a node type or a stack's name.
        stacks: All stacks.
        layers: The layers, their edge sets between the types that were found.
    """

    types: dict[str, str]
    stacks: tuple[Stack, ...]
    layers: tuple[LoweredLayer, ...]


def row_types(
    stored: Collection[Stored],
    layers: Collection[LoweredLayer],
    bindings: Mapping[str, Binding],
    parts: Mapping[str, StackPart],
    stacks: Collection[Stack] = (),
    host: Collection[HostStep] = (),
) -> RowTypes:
    """Whose nodes the rows of each stored tensor are, from features and edges, carried through the layers.

    Args:
        stored: The tensors.
        layers: The layers; edges that follow a pattern have no types yet.
        bindings: Meaning of the model's inputs.
        parts: Tensors that are parts of stacked ones.
        stacks: Those that edges name.
        host: Operators of the host.

    Raises:
        ModelStructureError: Rows of one tensor are of two types, or of none.
    """
    found = _Search(stacks={stack.name: stack for stack in stacks})
    for tensor in stored:
        binding = bindings.get(tensor.name)
        if tensor.origin == "features" and isinstance(binding, Features):
            found.note(tensor.name, binding.type)
    pairs = [(rows, layer.output) for layer in layers if layer.dense is not None for rows in layer.dense.reads]
    names = [(rows.name, written.name) for rows, written in pairs]
    names += [(rows, step.output) for step in host for rows in step.inputs]
    known = -1
    while len(found.types) != known:
        known = len(found.types)
        for left, right in names:
            found.equal(left, right)
        for layer in layers:
            for aggregation in layer.aggregations:
                found.aggregation(aggregation, layer.output)
        for whole in sorted({part.whole for part in parts.values()}):
            found.stacked(whole, parts)
    missing = [tensor.name for tensor in stored if tensor.name not in found.types]
    if missing:
        raise ModelStructureError(
            "nothing says whose nodes the rows of these tensors are: " + ", ".join(missing),
            "a path of dense layers to features or to an aggregation",
            "remove the unused layers from the model",
        )
    resolved = tuple(
        replace(layer, aggregations=tuple(found.resolved(each, layer.output) for each in layer.aggregations))
        for layer in layers
    )
    return RowTypes(found.types, tuple(found.stacks.values()), resolved)


@dataclass
class _Search:
    """The types that are known so far."""

    types: dict[str, str] = field(default_factory=dict)
    stacks: dict[str, Stack] = field(default_factory=dict)

    def note(self, tensor: str, node_type: str) -> None:
        """Says that a tensor's rows are of a type."""
        found = self.types.setdefault(tensor, node_type)
        if found != node_type:
            raise ModelStructureError(
                f"the rows of '{tensor}' are nodes of type '{found}' and of type '{node_type}'",
                "one node type per tensor",
                "correct the input binding (`--bind FILE`), or the model",
            )

    def equal(self, left: str, right: str) -> None:
        """Says that two tensors have the same rows."""
        if left in self.types:
            self.note(right, self.types[left])
        elif right in self.types:
            self.note(left, self.types[right])

    def stacked(self, whole: str, parts: Mapping[str, StackPart]) -> None:
        """Says of a stacked tensor and its parts what either is known of the other."""
        names = {name: part.number for name, part in parts.items() if part.whole == whole}
        if whole in self.types:
            for name, number in names.items():
                self.note(name, self.stacks[self.types[whole]].types[number])
        elif len(names) > 1 and all(name in self.types for name in names):
            # A part alone is a slice of rows that are written as a whole.
            by_number = {number: self.types[name] for name, number in names.items()}
            self.note(whole, self._stack(stack_of([by_number[number] for number in sorted(by_number)])))

    def aggregation(self, aggregation: Aggregation, output: Stored) -> None:
        """Says what the edges say of the ends and their scores."""
        edges = self.resolved(aggregation, output).edges
        if edges.source_type:
            self.note(aggregation.input.name, edges.source_type)
            self.note(output.name, edges.destination_type)
        for score, node_type in _scores(aggregation, edges):
            if node_type:
                self.note(score.name, node_type)
        if isinstance(aggregation.attention, Additive) and aggregation.attention.types is not None:
            count = len(edges.relations) + edges.self_loops
            if edges.pattern is not EdgePattern.NONE and edges.source_type:
                count = len(self.stacks[edges.source_type].types)
            if count:
                self.note(aggregation.attention.types.name, self._stack(rows_alone(count)))

    def resolved(self, aggregation: Aggregation, output: Stored) -> Aggregation:
        """The aggregation with the types of its edges' ends, as far as they are known."""
        edges = aggregation.edges
        if edges.pattern is EdgePattern.NONE or aggregation.input.name not in self.types:
            return aggregation
        source = self.types[aggregation.input.name]
        types = self.stacks[source].types
        destination = {
            EdgePattern.ACROSS: types[0],
            EdgePattern.AMONG: source,
            EdgePattern.WITHIN: self._stack(rows_alone(len(types))),
        }[edges.pattern]
        name = f"{edges.pattern.value} {source}"
        return replace(aggregation, edges=replace(edges, name=name, source_type=source, destination_type=destination))

    def _stack(self, stack: Stack) -> str:
        self.stacks.setdefault(stack.name, stack)
        return stack.name


def _scores(aggregation: Aggregation, edges: Edges) -> Iterator[tuple[Stored, str]]:
    """Scores of the two ends, with the ends' types."""
    attention = aggregation.attention
    if attention is None:
        return
    source, destination = (
        (attention.source, attention.destination)
        if isinstance(attention, Additive)
        else (attention.keys, attention.queries)
    )
    if source is not None:
        yield source, edges.source_type
    if destination is not None:
        yield destination, edges.destination_type
