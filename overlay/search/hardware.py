# SPDX-License-Identifier: Apache-2.0
"""The designs that a search chooses from: both arrays and their memories, AGG's scratchpad, the rest as in one design.

Resource functions are monotone, so a pair of arrays that does not fit with the smallest memories never fits, and of
the memories that fit only the largest are worth a look: a cut that fits a memory fits a larger one. No resource depends
on the clock, and no time rises with it, so that of the clocks that are allowed the highest is in all designs.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hetfab.overlay.board import Board, read_board
from hetfab.overlay.compiler.compile import functions_of
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.costs.resources import resource_rows
from hetfab.overlay.design import (
    ATTENTION_DESIGN,
    IMAGE_DESIGN,
    MOST_GROUPS,
    Design,
    default_design,
    enough,
    largest_value,
)
from hetfab.overlay.errors import DesignTooLargeError

_T = TypeVar("_T")

#: LUTs stay below this share of the board's: the figures of adapters and control are unchecked. The fullest of the
#: default designs takes 98.7 %.
LUT_SHARE = 0.99
#: Groups in a word of AGG's scratchpad that are tried, and of its depths the shares of the base's.
_WORD_BEATS, _SCRATCHPAD = (1, 4, 8), (0.5, 1, 2, 4, 8)
#: Shares of the base's depths that are tried: of both memories of activations together, of ``out_ram``.
_ACTIVATIONS, _RESULTS = (1, 2), (0.5, 1, 2)
#: Of ``Space``, beside arrays and memories of weights.
_OTHER_PARAMETERS = ("activations", "results")


@dataclass(frozen=True)
class Array:
    """Rows and columns of a matrix engine's array."""

    rows: int
    cols: int


@dataclass(frozen=True, order=True)
class Scratchpad:
    """AGG's scratchpad.

    Attributes:
        word_beats: Groups in a word.
        words: Depth in beats, of all its banks.
    """

    word_beats: int
    words: int

    @classmethod
    def of(cls, design: Design) -> "Scratchpad":
        """That of a design."""
        return cls(design.geometry.agg_word_beats, design.geometry.feature_words)

    def on(self, design: Design) -> Design:
        """A design with it."""
        return replace(
            design, geometry=replace(design.geometry, agg_word_beats=self.word_beats, feature_words=self.words)
        )


@dataclass(frozen=True)
class Space:
    """Values that are tried.

    Attributes:
        base: What all designs share.
        arrays_d: Of GEMM-D.
        arrays_l: Of GEMM-L.
        weight_words: Depths of both memories of weights, ascending.
        board: What designs must fit; not always that of the base.
        activations: Shares of the base's depths of both memories of activations.
        results: Shares of the base's depth of ``out_ram``.
        scratchpads: AGG's, ascending; none for the base's alone.
    """

    base: Design
    arrays_d: tuple[Array, ...]
    arrays_l: tuple[Array, ...]
    weight_words: tuple[int, ...]
    board: Board
    activations: tuple[float, ...] = (1,)
    results: tuple[float, ...] = (1,)
    scratchpads: tuple[Scratchpad, ...] = ()

    @classmethod
    def of(cls, base: Design) -> "Space":
        """Arrays of 4 to 32 rows and 8 to 32 columns, memories of 512 to 4,096 words; other buffers for graphs."""
        rows, cols = (4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32), (8, 16, 32)
        arrays = tuple(Array(*sides) for sides in itertools.product(rows, cols))
        buffers = (_ACTIVATIONS, _RESULTS) if not base.geometry.gather_beats else ((1,), (1,))
        return cls(base, arrays, arrays, (512, 1024, 1536, 2048, 3072, 4096), read_board(base.board), *buffers)

    def parameters(self) -> dict[str, tuple[float, ...]]:
        """Values of each parameter, ascending; other than arrays and weights only where there is a choice."""
        arrays = {"d": self.arrays_d, "l": self.arrays_l}
        sides = {
            f"{side}_{letter}": tuple(sorted({getattr(each, side) for each in several}))
            for letter, several in arrays.items()
            for side in ("rows", "cols")
        }
        depths = {f"words_{letter}": tuple(sorted(self.weight_words)) for letter in arrays}
        others = {name: tuple(sorted(getattr(self, name))) for name in _OTHER_PARAMETERS}
        others["scratchpad"] = tuple(range(len(self.scratchpads)))
        return sides | depths | {name: values for name, values in others.items() if len(values) > 1}

    def built(self, values: Mapping[str, float]) -> Design:
        """The design with values of ``parameters``."""
        on_d, on_l = (Array(int(values[f"rows_{letter}"]), int(values[f"cols_{letter}"])) for letter in "dl")
        words_d, words_l = int(values["words_d"]), int(values["words_l"])
        buffers = self._buffers(values.get("activations", 1), values.get("results", 1))
        design = self.design(on_d, on_l, words_d, words_l)
        if "scratchpad" in values:
            design = self.scratchpads[int(values["scratchpad"])].on(design)
        return self._with_memories(design, words_d, words_l, buffers)

    def with_base_buffers(self, design: Design) -> Design:
        """A design's arrays, memories of weights and scratchpad with all other memories of the base."""
        held, geometry = _arrays_of(design), design.geometry
        found = self.design(held["d"], held["l"], geometry.wgt_d_words, geometry.wgt_l_words)
        return Scratchpad.of(design).on(found)

    def with_more(self, resource: str, share: float) -> "Space":
        """The same on a board with more of a resource."""
        more = int(self.board.resources[resource] * (1 + share))
        return replace(self, board=replace(self.board, resources={**self.board.resources, resource: more}))

    def fitting(self) -> dict[Design, float]:
        """Designs of all arrays and scratchpads that fit with the smallest memories, which they have.

        Returns:
            The largest share of a resource that each needs.
        """
        scratchpads = self.all_scratchpads
        least, found = _smallest(self.base), dict[Design, float]()
        # Engines and memories are added up, so that a scratchpad takes as much beside any arrays.
        own, *others = (self.shares(each.on(least)) for each in scratchpads)
        more = [{name: share - own[name] for name, share in each.items()} for each in (own, *others)]
        for design, shares in self._pairs(scratchpads[0]):
            for scratchpad, extra in zip(scratchpads, more, strict=True):
                scarcest = max(share + extra[name] for name, share in shares.items())
                if scarcest <= 1:
                    found[scratchpad.on(design)] = scarcest
        return found

    def _pairs(self, scratchpad: Scratchpad) -> Iterator[tuple[Design, Mapping[str, float]]]:
        """Pairs of arrays that fit with a scratchpad, and the shares of all resources that they need.

        A pair that does not fit rules out those with more rows and columns of both.
        """
        words = self.weight_words[0]
        failed: list[tuple[Array, Array]] = []
        for on_d, on_l in itertools.product(self.arrays_d, self.arrays_l):
            if any(_within(d, on_d) and _within(each, on_l) for d, each in failed):
                continue
            design = scratchpad.on(self.design(on_d, on_l, words, words))
            shares = self.shares(design)
            if max(shares.values()) <= 1:
                yield design, shares
            else:
                failed.append((on_d, on_l))

    def design(self, on_d: Array, on_l: Array, words_d: int, words_l: int) -> Design:
        """A design of the space."""
        geometry = replace(
            self.base.geometry,
            gemm_d_rows=on_d.rows,
            gemm_d_cols=on_d.cols,
            gemm_l_rows=on_l.rows,
            gemm_l_cols=on_l.cols,
            wgt_d_words=words_d,
            wgt_l_words=words_l,
        )
        return replace(self.base, geometry=geometry)

    def bases(self) -> list[Design]:
        """The base with each scratchpad that the board holds it with."""
        return [found for found in (each.on(self.base) for each in self.all_scratchpads) if self.holds(found)]

    def largest_memories(self, design: Design) -> list[Design]:
        """The arrays of a design with memories of which none can be deeper; buffers like the base's come first."""
        fitting = {
            (*depths, *shares): self._with_memories(design, *depths, self._buffers(*shares))
            for shares in sorted(itertools.product(self.activations, self.results), key=_from_base)
            for depths in self._deepest(design, self._buffers(*shares))
        }
        return [found for words, found in fitting.items() if not any(_deeper(other, words) for other in fitting)]

    def _deepest(self, design: Design, buffers: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
        """Of each depth of GEMM-D's weights the deepest of GEMM-L's that fits, which falls as the former rises."""
        left = list(self.weight_words)
        for words_d in self.weight_words:
            while left and not self.holds(self._with_memories(design, words_d, left[-1], buffers)):
                left.pop()
            if not left:
                return
            yield words_d, left[-1]

    def _buffers(self, activations: float, results: float) -> dict[str, int]:
        """Depths of the buffers beside the weights."""
        base = self.base.geometry
        words = {name: int(activations * getattr(base, name)) for name in ("act_d_words", "act_l_words")}
        return words | {"out_words": int(results * base.out_words)}

    def _with_memories(self, design: Design, words_d: int, words_l: int, buffers: Mapping[str, Any]) -> Design:
        geometry = replace(design.geometry, wgt_d_words=words_d, wgt_l_words=words_l, **buffers)
        return replace(design, geometry=geometry)

    def neighbours(self, design: Design) -> Iterator[Design]:
        """Arrays that fit with a side of one of them, or of each, a step larger or smaller; smallest memories.

        The design's scratchpad stays, or changes by a step where no array becomes larger.
        """
        held, own = _arrays_of(design), Scratchpad.of(design)
        steps = [(core, array) for core, arrays in self._arrays.items() for array in _next_to(held[core], arrays)]
        one = [held | {core: array} for core, array in steps]
        two = [
            held | {"d": on_d, "l": on_l}
            for core, on_d in steps
            for other, on_l in steps
            if (core, other) == ("d", "l")
        ]
        near = [(arrays, own) for arrays in (*one, *two)]
        smaller = [arrays for arrays in one if all(_within(arrays[core], held[core]) for core in held)]
        near += [(arrays, other) for other in self._scratchpads_next_to(own) for arrays in smaller]
        for arrays, scratchpad in near:
            found = self._smallest_of(arrays, scratchpad)
            if self.holds(found):
                yield found

    def _scratchpads_next_to(self, own: Scratchpad) -> list[Scratchpad]:
        """With the next depths and the same words, and with the next words and the same depth."""
        deep = [each for each in self.scratchpads if each.word_beats == own.word_beats]
        wide = [each for each in self.scratchpads if each.words == own.words]
        return [found for line in (deep, wide) for found in _beside(own, line)]

    def smallest(self, design: Design) -> Design:
        """A design's arrays and scratchpad with the smallest memories of weights, as ``fitting`` gives them."""
        return self._with_memories(design, self.weight_words[0], self.weight_words[0], self._buffers(1, 1))

    def _smallest_of(self, arrays: Mapping[str, Array], scratchpad: Scratchpad) -> Design:
        """Arrays with the smallest memories and a scratchpad."""
        words = self.weight_words[0]
        return scratchpad.on(self.design(arrays["d"], arrays["l"], words, words))

    def with_other_scratchpads(self, design: Design) -> Iterator[Design]:
        """The smallest of a design with each other scratchpad, as far as it fits."""
        least = self.smallest(design)
        for scratchpad in self.scratchpads:
            other = scratchpad.on(least)
            if other != least and self.holds(other):
                yield other

    @property
    def all_scratchpads(self) -> tuple[Scratchpad, ...]:
        """Those that are tried, or the base's alone."""
        return self.scratchpads or (Scratchpad.of(self.base),)

    @property
    def _arrays(self) -> dict[str, tuple[Array, ...]]:
        return {"d": self.arrays_d, "l": self.arrays_l}

    def holds(self, design: Design) -> bool:
        """Whether the board holds a design with some room for what the figures miss."""
        return all(share <= 1 for share in self.shares(design).values())

    def shares(self, design: Design) -> Mapping[str, float]:
        """Of what may be used of each resource, the share that a design needs, modelled."""
        allowed = {"lut": LUT_SHARE}
        rows = resource_rows(design, self.board)
        return {name: need / (allowed.get(name, 1) * there) if there else float(need > 0) for name, need, there in rows}


def base_design(board: str, models: Sequence[LoweredModel | None]) -> Design:
    """What designs for models share: the engines and memories of a default design that has all that they need.

    Args:
        board: Name of the board.
        models: The layers of each model on a graph, None for a network on samples.

    Raises:
        DesignInvalidError: There is no such board.
        DesignTooLargeError: The smallest design does not fit.
    """
    read_board(board)
    own, graphs = default_design(board), [each for each in models if each is not None]
    needs = [need for each in graphs for need in functions_of(each, own.geometry.lanes).items()]
    if any(need > getattr(own.geometry, name) for name, need in needs):
        own = _on_board(default_design(ATTENTION_DESIGN), own)
        most = {name: max(need for other, need in needs if other == name) for name, _ in needs}
        raised = {name: max(enough(name, need), getattr(own.geometry, name)) for name, need in most.items()}
        own = replace(own, geometry=replace(own.geometry, **raised))
    if len(graphs) < len(models):
        own = _with_images(own, bool(graphs))
    space, smallest = Space.of(own), _smallest(own)
    if not space.holds(smallest):
        shares = ", ".join(f"{name} {share:.0%}" for name, share in space.shares(smallest).items() if share > 1)
        raise DesignTooLargeError(
            f"the smallest design that has what the models need takes too much of '{board}': {shares} (modelled)",
            "a design within the board's resources",
            "choose a larger board, or search for fewer models at once",
        )
    return own


def scratchpads_of(base: Design) -> list[Scratchpad]:
    """What AGG's scratchpad may be on designs of a base, ascending; none where it has none."""
    geometry, space, least = base.geometry, Space.of(base), _smallest(base)
    if "agg" not in geometry.engines or not geometry.feature_words:
        return []
    depths = {int(share * geometry.feature_words) for share in _SCRATCHPAD}
    beats = [each for each in _WORD_BEATS if geometry.agg_groups <= MOST_GROUPS.get(each, geometry.agg_groups)]
    several = {Scratchpad(wide, deep) for wide in beats for deep in depths if deep <= largest_value("feature_words")}
    several.add(Scratchpad.of(base))
    return sorted(each for each in several if space.holds(each.on(least)))


def _smallest(base: Design) -> Design:
    """The smallest design of the space of a base."""
    space = Space.of(base)
    return space.design(space.arrays_d[0], space.arrays_l[0], space.weight_words[0], space.weight_words[0])


def _with_images(design: Design, graphs: bool) -> Design:
    """A design with the memories that images need; without AGG where no model runs on a graph."""
    images = default_design(IMAGE_DESIGN)
    if not graphs:
        return _on_board(images, design)
    ours, theirs = design.geometry, images.geometry
    names = [
        name for name in vars(ours) if name != "engines" and not name.startswith("gemm") and name != "engine_fifo_depth"
    ]
    return replace(
        design, geometry=replace(ours, **{name: max(getattr(ours, name), getattr(theirs, name)) for name in names})
    )


def _on_board(design: Design, board: Design) -> Design:
    """The geometry of a design on the board, and at the clock, of another one."""
    return replace(design, board=board.board, clock_mhz=board.clock_mhz)


def _arrays_of(design: Design) -> dict[str, Array]:
    geometry = design.geometry
    return {
        "d": Array(geometry.gemm_d_rows, geometry.gemm_d_cols),
        "l": Array(geometry.gemm_l_rows, geometry.gemm_l_cols),
    }


def _next_to(held: Array, arrays: Sequence[Array]) -> Iterator[Array]:
    """The nearest larger and the nearest smaller array that differ in rows alone, and in columns alone."""
    tall = sorted((a for a in arrays if a.cols == held.cols), key=lambda array: array.rows)
    wide = sorted((a for a in arrays if a.rows == held.rows), key=lambda array: array.cols)
    for line in (tall, wide):
        yield from _beside(held, line)


def _beside(held: _T, line: Sequence[_T]) -> list[_T]:
    """What stands before and behind something in a line; nothing where it is not in it."""
    if held not in line:
        return []
    place = line.index(held)
    return [*line[max(place - 1, 0) : place], *line[place + 1 : place + 2]]


def _within(small: Array, large: Array) -> bool:
    return small.rows <= large.rows and small.cols <= large.cols


def _deeper(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine >= its for mine, its in zip(one, other, strict=True))


def _from_base(shares: tuple[float, ...]) -> float:
    """How far shares are from the base's depths."""
    return sum(abs(share - 1) for share in shares)
