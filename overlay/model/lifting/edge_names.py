# SPDX-License-Identifier: Apache-2.0
"""What the edges of a lifted model are called, and which relations they are."""

from hetfab.overlay.errors import InputsUnboundError
from hetfab.overlay.model.binding import Binding, End, JoinedEnd, LoopedEnd, NamedEnd, RelationEnd
from hetfab.overlay.model.lifting.raw_inputs import RawEdges, RawInputs, RawKinds
from hetfab.overlay.model.lifting.values import Block, Blocks, Loops
from hetfab.overlay.model.schema import Relation


class EdgeNames(dict[Blocks, str]):
    """Names of edges in the lifted model, and what they mean."""

    def __init__(self, raw: RawInputs) -> None:
        super().__init__()
        self._raw = raw

    def __missing__(self, blocks: Blocks) -> str:
        name = self._name(blocks)
        alike = sum(name == other.partition(".")[0] for other in self.values())
        self[blocks] = f"{name}.{alike + 1}" if alike else name
        return self[blocks]

    def _name(self, blocks: Blocks) -> str:
        if len(blocks) > 1:
            return f"into_{self.relation(blocks[0]).destination}"
        relation = self._relation(blocks[0])
        name = relation if isinstance(relation, str) else relation.name
        return f"{name}_looped" if blocks[0].loops is Loops.REPLACED else name

    def _relation(self, block: Block) -> Relation | str:
        """The relation of a block, or its name where no more is said."""
        meaning = self._raw[block.edges.name]
        assert isinstance(meaning, RawEdges)
        if block.kind is None or block.edges.kinds is None:
            return meaning.relation or meaning.name
        kinds = self._raw[block.edges.kinds[0]]
        assert isinstance(kinds, RawKinds)
        return kinds.relations[block.kind] if kinds.relations else f"{meaning.name}_{block.kind}"

    def relation(self, block: Block) -> Relation:
        """The relation of a block with its ends.

        Raises:
            InputsUnboundError: The type of its nodes is unknown.
        """
        relation, ends = self._relation(block), [block.space(end).node_type for end in End]
        if isinstance(relation, Relation):
            return relation
        if None in ends:
            raise InputsUnboundError(
                f"the node types that the input '{block.edges.name}' joins are unknown",
                "features of these types among the inputs, or a relation with its types",
                "say what the input means with --bind FILE (docs/pyg.md)",
            )
        return Relation(str(ends[0]), relation, str(ends[1]))

    def binding(self, blocks: Blocks, end: End) -> Binding:
        """What an end of edges means."""
        if len(blocks) > 1:
            relations = tuple(self.relation(block) for block in blocks)
            return JoinedEnd(relations[0].destination, relations, end)
        if blocks[0].loops is Loops.REPLACED:
            return LoopedEnd(self.relation(blocks[0]), end)
        relation = self._relation(blocks[0])
        return NamedEnd(relation, end) if isinstance(relation, str) else RelationEnd(relation, end)
