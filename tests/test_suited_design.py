# SPDX-License-Identifier: Apache-2.0
"""Which default design a model is compiled for where none is named."""

import numpy as np
import pytest

from hetfab.overlay.compiler.compile import check_engines, compile_model, suited_design
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.costs.resources import check_fits
from hetfab.overlay.design import ATTENTION_DESIGN, DEFAULT_DESIGN, default_design
from hetfab.overlay.errors import DesignInvalidError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model.bound_model import BoundModel
from tests.attention_models import MODELS, attention_case
from tests.programs import bound_to, quantized, reference_logits, run_golden
from tests.random_models import Case, ModelBuilder, random_case


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


def weighted_case() -> Case:
    """A sum over edges that have weights."""
    case = random_case(1)
    (relation, *_) = (each for each in case.graph.relations if each.source in case.graph.features)
    builder = ModelBuilder(np.random.default_rng(0), case.graph)
    rows = builder.dense(builder.features(relation.source), 4, bias=False)
    return Case(builder.finish(builder.weighted_sum(rows, relation.name, relation.destination)), case.graph)


def test_weights_of_edges_take_a_shipped_design_that_has_them() -> None:
    case = weighted_case()
    found = quantized(case)
    layers = lower(found.model, found.bindings)
    chosen = suited_design(layers)
    assert chosen == default_design(ATTENTION_DESIGN)
    with pytest.raises(DesignInvalidError, match=f"the design '{DEFAULT_DESIGN}' has agg_weights 0"):
        check_engines(layers, default_design())
    bound = bound_to(compile_model(BoundModel(found.model, found.bindings), chosen), case.graph)
    logits = bound.logits(run_golden(bound).dram[Segment.OUTPUT])
    values = (logits * bound.program.output.scale).astype(np.float32)
    np.testing.assert_array_equal(values, reference_logits(found.model, case.graph))


@pytest.mark.parametrize("name", ["zc706", "zcu104"])
def test_the_default_designs_of_large_boards_execute_all_models(name: str) -> None:
    design = default_design(name)
    check_fits(design)
    check_engines(lowered(weighted_case()), design)
    check_engines(lowered(attention_case("hgt")), design)


def test_other_models_get_the_default_design() -> None:
    layers = lowered(random_case(1))
    assert suited_design(layers) == default_design()


def test_the_design_fits_its_board() -> None:
    check_fits(default_design(ATTENTION_DESIGN))
