# SPDX-License-Identifier: Apache-2.0
"""One file of every kind that quantization writes, in onnx.checker, onnxruntime and qonnx."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import pytest

from hetfab.overlay.model import hgnn
from hetfab.overlay.model.runtime import Feed, run_model
from hetfab.quantize.assignment import ActivationChoice, Assignment, WeightChoice
from hetfab.quantize.formats.qcdq import qcdq_model
from hetfab.quantize.methods import TWIN, WEIGHT_METHODS
from hetfab.quantize.ranges import TwinRange
from hetfab.quantize.recipe import Recipe
from hetfab.quantize.study import Study
from hetfab.quantize.widths import OFFERED, Widths
from tests.random_models import ModelBuilder, academic_case, random_case
from tests.test_cnn_methods import study_of as cnn_study_of
from tests.test_study import study_of

File = tuple[onnx.ModelProto, Feed]


@cache
def graph_study() -> Study:
    return study_of(random_case(6, largest_count=33))


def assigned(study: Study, assignment: Assignment) -> File:
    return study.write(assignment), study.samples[0]


def by_method(name: str, bits: int) -> Callable[[], File]:
    return lambda: assigned(graph_study(), graph_study().uniform(Widths(bits, 8), weights=name))


def by_recipe(bits: str) -> Callable[[], File]:
    def made() -> File:
        found = Recipe(graph_study()).found(OFFERED[bits])
        return assigned(found.study, found.assignment)

    return made


def corrected() -> File:
    found = graph_study().uniform(Widths(4, 4), weights="nearest")
    return assigned(graph_study(), Assignment(found.weights, found.activations, correct_bias=True, block_steps=2))


def two_widths() -> File:
    study = graph_study()
    assignment = study.uniform(Widths(8, 8))
    for name, layer in study.layers.items():
        channels = layer.weight.shape[1]
        if name != study.graph.output and channels > 1:
            assignment = assignment.with_weights(name, WeightChoice((8,) + (4,) * (channels - 1)))
    model, feed = assigned(study, assignment)
    assert any(node.output[0].endswith(".weight.joined") for node in model.graph.node)
    return model, feed


def twin() -> File:
    """Without attention: qonnx runs each operator by itself, but loops of its bodies read what is around them."""
    case = academic_case()
    builder = ModelBuilder(np.random.default_rng(0), case.graph)
    hidden = builder.dense(builder.features("paper"), 9)
    hidden = builder._sized(builder._node("Elu", hidden), 9)
    study = study_of(replace(case, model=builder.finish(builder.dense(hidden, 4))))
    assignment = study.uniform(Widths(8, 8), weights="nearest")
    for group in filter(study.offers_twin, study.groups):
        assignment = assignment.with_activations(group, ActivationChoice(3, TWIN))
    assert any(isinstance(each, TwinRange) for each in study.numbers(assignment).ranges.values())
    return assigned(study, assignment)


def on_samples(groups: int = 3) -> File:
    study = cnn_study_of(groups)
    first = next(iter(study.layers))
    assignment = study.uniform(Widths(4, 8)).with_weights(first, WeightChoice((8, 8, 3, 3, 3, 3)))
    return study.write(assignment), study.samples[0]


def standard_operators() -> File:
    """Onnxruntime's fused integer convolution has other results for several groups of several channels."""
    model, feed = on_samples(1)
    return qcdq_model(model), feed


KINDS: dict[str, Callable[[], File]] = {
    **{f"{name}, {bits} bits": by_method(name, bits) for bits, name in enumerate(WEIGHT_METHODS, 1)},
    "recipe w4a4": by_recipe("w4a4"),
    "corrected biases, block stage": corrected,
    "two widths": two_widths,
    "twin ranges": twin,
    "network on samples, two widths": on_samples,
    "QCDQ": standard_operators,
}


def fixed_shapes(model: onnx.ModelProto, feed: Feed, rows: int) -> onnx.ModelProto:
    """As qonnx needs it: shapes are constant, and bodies stand in place of operators on graphs."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, feed[value.name].shape, strict=True):
            dim.dim_value = size
    fixed.graph.output[0].type.tensor_type.shape.dim[0].dim_value = rows
    bodies = [(each.domain, each.name) for each in fixed.functions if each.domain == hgnn.DOMAIN]
    return onnx.inliner.inline_selected_functions(fixed, bodies) if bodies else fixed


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_runs_in_checker_onnxruntime_and_qonnx(kind: str) -> None:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    model, feed = KINDS[kind]()
    onnx.checker.check_model(model, full_check=True)
    name = model.graph.output[0].name
    given: dict[str, Any] = {value.name: feed[value.name] for value in model.graph.input}
    expected = run_model(model, given, [name])[0]
    assert expected.size and np.isfinite(expected).all() and expected.any()
    fixed = ModelWrapper(fixed_shapes(model, given, len(expected))).transform(InferShapes())
    np.testing.assert_array_equal(execute_onnx(fixed, given)[name], expected)
