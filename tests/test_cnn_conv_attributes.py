# SPDX-License-Identifier: Apache-2.0
"""Every combination of Conv's attributes: compiled and run as onnxruntime runs ``model.q.onnx``, or refused by name."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hetfab.hls.build.emulator import Bodies, Emulator, build_emulator
from hetfab.overlay.bind_samples import bind_sample
from hetfab.overlay.compiler.cnn.network import compile_cnn
from hetfab.overlay.images import image_values
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.parser import try_cnn
from hetfab.overlay.model.cnn.window import AutoPad, Pair, Window, same_padding
from hetfab.overlay.model.reader import bindings_of, check_model, normalise
from hetfab.overlay.program import Program
from hetfab.quantize.cnn.post_training import quantize_cnn
from hetfab.quantize.widths import Widths
from tests.image_programs import SMALL_IMAGES, Samples, in_runtime
from tests.programs import Executed, design_of, run_emulated, run_golden
from tests.random_cnns import CnnBuilder

POINT = Window((1, 1))


@dataclass(frozen=True)
class Case:
    """A convolution with all its attributes, and what stands around it.

    Attributes:
        size: Rows and columns of its input.
        window: Its window, with the padding that ``auto_pad`` stands for.
        auto_pad: How its padding is written.
        groups: Groups of channels.
        inputs: Input channels of a group.
        outputs: Output channels of a group.
        bias: None, in Conv, or added behind it: 0 to 2.
        stored: Whether another convolution is before it, so that it reads no samples.
        added: Whether a stored tensor is added to it.
        end: The rectifier behind it: an operator, or nothing.
        last: Whether it computes the logits.
        batch: Samples; the model's batch is as large, or free.
        fixed: Whether the batch is fixed.
        widths: Of inner layers.
        edges: Of the first and the last layer.
        opset: Of the model.
        seed: Of weights and samples.
    """

    size: Pair
    window: Window
    auto_pad: AutoPad
    groups: int
    inputs: int
    outputs: int
    bias: int
    stored: bool
    added: bool
    end: str
    last: bool
    batch: int
    fixed: bool
    widths: Widths
    edges: Widths
    opset: int
    seed: int


def pairs(low: int, high: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def widths() -> st.SearchStrategy[Widths]:
    return st.builds(Widths, st.integers(1, 8), st.integers(2, 8))


#: Groups, and input and output channels of each: plain, grouped, depthwise with several outputs a channel.
CHANNELS = st.one_of(
    st.tuples(st.just(1), st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(2, 5), st.integers(2, 7), st.integers(1, 7)),
    st.tuples(st.integers(2, 36), st.just(1), st.integers(1, 3)),
)
#: Mostly those that run.
DILATIONS = st.sampled_from([(1, 1)] * 6 + [(2, 2), (2, 2), (3, 3), (1, 2), (3, 1)])


@st.composite
def windows(draw: st.DrawFn, size: Pair) -> tuple[Window, AutoPad]:
    """Windows as ONNX may have them, also such as no image of this size holds."""
    kernel = draw(st.one_of(st.just((3, 3)), pairs(1, 3), pairs(1, 7)))
    mode = draw(st.sampled_from(AutoPad))
    dilated = mode in (AutoPad.NOTSET, AutoPad.VALID) or draw(st.integers(0, 5)) == 5
    dilations = draw(DILATIONS) if dilated else (1, 1)
    window = Window(kernel, draw(pairs(1, 4)), dilations)
    if mode is not AutoPad.NOTSET:
        return same_padding(window, size, mode), mode
    above, left, below, right = (draw(st.integers(0, 3)) for _ in range(4))
    return Window(kernel, window.strides, dilations, (above, left, below, right)), mode


@st.composite
def cases(draw: st.DrawFn) -> Case:
    size = draw(pairs(2, 11))
    window, mode = draw(windows(size))
    groups, inputs, outputs = draw(CHANNELS)
    last = draw(st.booleans())
    return Case(
        size=size,
        window=window,
        auto_pad=mode,
        groups=groups,
        inputs=inputs,
        outputs=outputs,
        bias=draw(st.integers(0, 2)),
        stored=draw(st.booleans()),
        added=draw(st.booleans()),
        # A rectifier that ends the model is refused.
        end="" if last else draw(st.sampled_from(["", "Relu", "Clip"])),
        last=last,
        batch=draw(st.integers(1, 2)),
        fixed=draw(st.booleans()),
        widths=draw(widths()),
        edges=draw(widths()),
        opset=draw(st.integers(17, 21)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def model_of(case: Case) -> tuple[onnx.ModelProto, str]:
    """The model, and the name of the convolution's output."""
    channels = case.groups * case.inputs
    given = 3 if case.stored else channels
    batch: int | str = case.batch if case.fixed else "N"
    build = CnnBuilder(np.random.default_rng(case.seed), (given, *case.size), opset=case.opset, batch=batch)
    read = build.node("Relu", build.conv("input", channels, POINT)) if case.stored else "input"
    attributes: dict[str, Any] = {} if case.auto_pad is AutoPad.NOTSET else {"auto_pad": case.auto_pad.value}
    outputs = case.groups * case.outputs

    def convolve() -> str:
        return build.conv(read, outputs, case.window, groups=case.groups, bias=case.bias, **attributes)

    stored = build.node("Relu", convolve()) if case.added else ""
    first = len(build.nodes)
    found = convolve()
    name = next(node.output[0] for node in build.nodes[first:] if node.op_type == "Conv")
    found = build.node("Add", found, stored) if case.added else found
    bounds = [build.constant(np.float32(0)), build.constant(np.float32(2.5))] if case.end == "Clip" else []
    found = build.node(case.end, found, *bounds) if case.end else found
    return build.finish(found if case.last else build.conv(found, 3, POINT)), name


def refused(case: Case) -> str | None:
    """Why a convolution is refused, None where it runs."""
    window, rows_columns = case.window, case.size
    if case.auto_pad in (AutoPad.SAME_UPPER, AutoPad.SAME_LOWER) and window.dilations != (1, 1):
        return "onnxruntime does not run auto_pad with dilations; write the pads as numbers"
    if window.dilations[0] != window.dilations[1]:
        return (
            f"its dilations {list(window.dilations)} differ, and no engine reads such windows; "
            "use one dilation for rows and columns"
        )
    if min(window.positions(rows_columns)) < 1:
        reach, size = (" x ".join(map(str, pair)) for pair in (window.reach, rows_columns))
        return f"its window reaches over {reach} pixels of {size}; use larger images, or a smaller window"
    return None


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """The kernels' own bodies, which check the order of accesses."""
    with Emulator(build_emulator(SMALL_IMAGES, bodies=Bodies.PLAIN), SMALL_IMAGES) as opened:
        yield opened


#: The sums of one convolution join the result of another one that reads the same samples.
JOINED = Case(
    size=(1, 1),
    window=POINT,
    auto_pad=AutoPad.NOTSET,
    groups=6,
    inputs=1,
    outputs=3,
    bias=0,
    stored=False,
    added=True,
    end="",
    last=True,
    batch=1,
    fixed=False,
    widths=Widths(4, 4),
    edges=Widths(1, 2),
    opset=17,
    seed=0,
)
#: Windows of so many channels that LOAD cuts but few of them out of a line at once.
WIDE_SAMPLES = replace(JOINED, size=(1, 6), window=Window((1, 2)), groups=1, inputs=17, outputs=1, added=False)
#: DW reads the samples.
DEPTHWISE_SAMPLES = replace(
    JOINED,
    size=(5, 4),
    window=Window((3, 3), pads=(1, 1, 1, 1)),
    groups=16,
    inputs=1,
    outputs=1,
    added=False,
    last=False,
)
#: Depthwise windows that DW does not serve.
LARGE = replace(DEPTHWISE_SAMPLES, size=(9, 8), window=Window((5, 5), pads=(2, 2, 2, 2)), stored=True)
LARGER = replace(LARGE, window=Window((7, 7), (2, 2), pads=(3, 3, 3, 3)))
FLAT = replace(LARGE, window=Window((1, 7), pads=(0, 3, 0, 3)))
DILATED = replace(LARGE, window=Window((3, 3), dilations=(2, 2), pads=(2, 2, 2, 2)))


@settings(max_examples=60, deadline=None)
@given(case=cases())
@example(case=JOINED)
@example(case=WIDE_SAMPLES)
@example(case=DEPTHWISE_SAMPLES)
@example(case=LARGE)
@example(case=LARGER)
@example(case=FLAT)
@example(case=DILATED)
def test_every_convolution_runs_as_in_onnxruntime_or_is_refused_by_name(case: Case, emulator: Emulator) -> None:
    """Every tensor in DRAM, of golden model and emulator."""
    model, name = model_of(case)
    reason = refused(case)
    if reason is not None:
        assert f"Conv '{name}': {reason}" in try_cnn(model).refused
        return
    samples = np.random.default_rng(case.seed).normal(size=(case.batch, *sample_shape(model))).astype(np.float32)
    model = check_model(normalise(model), "the float model")
    fed = FedModel(model, bindings_of(model), [{"input": samples}])
    result = quantize_cnn(fed, widths=case.widths, edges=case.edges)
    assume(not result.may_round)
    integers = read_integers(result.model)
    expected = in_runtime(result.model, integers, samples)
    program = compile_cnn(integers, design_of(SMALL_IMAGES), keep=True)
    for index, sample in enumerate(samples):
        bound = bind_sample(program, sample)
        wanted = {name: values[index] for name, values in expected.items()}
        assert differing(wanted, program, run_golden(bound)) == []
        assert differing(wanted, program, run_emulated(bound, emulator, case.seed)) == []


def sample_shape(model: onnx.ModelProto) -> tuple[int, ...]:
    return tuple(size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[1:])


def differing(expected: dict[str, Samples], program: Program, executed: Executed) -> list[str]:
    """Names of the tensors that differ in DRAM; what depthwise layers take from the chip is not there."""
    images = [image for image in program.images if image.name in expected]
    stored = [image_values(image, executed.dram[Segment[image.segment.upper()]]) for image in images]
    return [image.name for image, values in zip(images, stored, strict=True) if np.any(values != expected[image.name])]
