# SPDX-License-Identifier: Apache-2.0
"""What is done for a pair of widths: which methods, which tensors are spared, what is compared.

``hetfab quantize --bits w4a4`` and ``python -m benchmarks.quantize`` do this. With activations of 8 bits, ranges are
searched with weights of 8 bits, and again with narrow ones. With fewer, the ends of the model keep 8 bits, and channels
are balanced or not, whichever is nearer to the float model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from hetfab.quantize.assignment import Assignment
from hetfab.quantize.range_search import search_steps, searched_ranges
from hetfab.quantize.study import Study
from hetfab.quantize.widths import POWER_OF_TWO_BITS, Widths

_WIDE = 8
_S = TypeVar("_S", bound=Study)


@dataclass(frozen=True, eq=False)
class Found(Generic[_S]):
    """What a recipe gives.

    Attributes:
        study: The model, its channels balanced or not.
        assignment: Of this study.
        kept: The name of what is kept.
        divergences: Of all that was compared in the end, as the study computes them, in nats.
    """

    study: _S
    assignment: Assignment
    kept: str
    divergences: Mapping[str, float]


@dataclass(eq=False)
class Recipe(Generic[_S]):
    """The recipe for one model; results are kept, since those of 8 bits are where others start.

    Attributes:
        study: The model.
        progress: Called with the name of each step, ``steps`` times at most.
    """

    study: _S
    progress: Callable[[str], None] = lambda step: None
    _found: dict[Widths, Found[_S]] = field(default_factory=dict)

    def found(self, widths: Widths) -> Found[_S]:
        """Numbers for a pair of widths."""
        if widths not in self._found:
            self._found[widths] = self._wide(widths) if widths.activations == _WIDE else self._narrow(widths)
        return self._found[widths]

    def steps(self, widths: Widths) -> int:
        """How often ``progress`` is called at most."""
        if widths.activations == _WIDE:
            return search_steps(self.study, 1) * (1 + (widths.weights <= POWER_OF_TWO_BITS))
        return search_steps(self.study, 2) * 2

    def _wide(self, widths: Widths) -> Found[_S]:
        start = self.study.uniform(widths, weights=weight_method(widths))
        if widths.weights <= POWER_OF_TWO_BITS:
            eight = self.found(Widths(_WIDE, _WIDE)).assignment
            start = replace(start, activations=eight.activations, arguments=eight.arguments)
        assignment = searched_ranges(self.study, start, 1, self.progress)
        divergence = self.study.divergence(assignment)
        return Found(self.study, assignment, "searched", {"searched": divergence})

    def _narrow(self, widths: Widths) -> Found[_S]:
        divergences, kept = {}, dict[str, tuple[_S, Assignment]]()
        for name, study in (("searched", self.study), ("searched, balanced channels", self.study.balanced())):
            start = study.with_wide_ends(study.uniform(widths, weights=weight_method(widths)), _WIDE)
            kept[name] = study, searched_ranges(study, start, progress=self.progress)
            divergences[name] = study.divergence(kept[name][1])
        nearest = min(divergences, key=divergences.__getitem__)
        return Found(*kept[nearest], nearest, divergences)


def weight_method(widths: Widths) -> str:
    """The method for weights of a width: rounding to nearest loses nothing above 4 bits."""
    return "alternation" if widths.weights <= POWER_OF_TWO_BITS else "nearest"
