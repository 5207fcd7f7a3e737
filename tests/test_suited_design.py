# SPDX-License-Identifier: Apache-2.0
"""Which default design a model is compiled for where none is named."""

import pytest

from hetfab.overlay.compiler.compile import check_engines, suited_design
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.costs.resources import check_fits
from hetfab.overlay.design import ATTENTION_DESIGN, DEFAULT_DESIGN, default_design
from hetfab.overlay.errors import DesignInvalidError
from tests.attention_models import MODELS, attention_case
from tests.programs import quantized
from tests.random_models import Case, random_case


def lowered(case: Case) -> LoweredModel:
    """Integer layers of a model."""
    found = quantized(case)
    return lower(found.model, found.bindings)


@pytest.mark.parametrize("name", MODELS)
def test_models_that_attend_get_the_design_with_attention(name: str) -> None:
    layers = lowered(attention_case(name))
    chosen = suited_design(layers)
    assert chosen == default_design(ATTENTION_DESIGN)
    check_engines(layers, chosen)
    with pytest.raises(DesignInvalidError, match=f"the design '{DEFAULT_DESIGN}' has agg_heads 0"):
        check_engines(layers, default_design())


def test_other_models_get_the_default_design() -> None:
    layers = lowered(random_case(1))
    assert suited_design(layers) == default_design()


def test_the_design_fits_its_board() -> None:
    check_fits(default_design(ATTENTION_DESIGN))
