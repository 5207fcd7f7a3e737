# SPDX-License-Identifier: Apache-2.0
"""Compiles networks on samples with every tensor kept, runs them, and compares all tensors with the integer layers."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.bind_samples import bind_sample
from hetfab.overlay.compiler.cnn.network import compile_cnn
from hetfab.overlay.design import Geometry, default_design
from hetfab.overlay.images import image_values
from hetfab.overlay.isa.arithmetic import Integers
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.cnn.integer import IntegerCnn
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.interpreter import logits, run_integers
from hetfab.overlay.model.reader import bindings_of, check_model, normalise
from hetfab.overlay.model.runtime import run_model
from hetfab.quantize.cnn.post_training import quantize_cnn
from hetfab.quantize.widths import Widths
from tests.programs import Executed, design_of, run_golden
from tests.random_cnns import random_cnn

#: Small arrays and memories, so that small images already take several tiles, passes and pieces.
SMALL_IMAGES = replace(
    default_design().geometry,
    engines=("load", "store", "gemm_d", "gemm_l", "vec", "dw"),
    exp_words=128,
    dwp_words=64,
    mid_words=64,
    gemm_d_rows=4,
    gemm_l_rows=3,
    act_d_words=64,
    act_l_words=32,
    wgt_d_words=96,
    wgt_l_words=96,
    par_words=32,
    acc_d_words=64,
    acc_l_words=64,
    out_words=128,
    res_words=128,
    gather_beats=16,
    fun_words=0,
    norm_words=0,
    sum_words=16,
)

Samples = npt.NDArray[np.float32]


def random_integers(seed: int, widths: Widths) -> tuple[IntegerCnn, Samples]:
    """A quantized random network, and its calibration samples."""
    return quantized(random_cnn(seed), widths, seed)


def quantized(float_model: onnx.ModelProto, widths: Widths, seed: int = 0) -> tuple[IntegerCnn, Samples]:
    """A network with weights and stored tensors of these widths, and its calibration samples."""
    model = check_model(normalise(float_model), "the float model")
    given = model.graph.input[0]
    shape = [size.dim_value for size in given.type.tensor_type.shape.dim][1:]
    samples = np.random.default_rng(seed).normal(size=(8, *shape)).astype(np.float32)
    fed = FedModel(model, bindings_of(model), [{given.name: samples}])
    return read_integers(quantize_cnn(fed, widths=widths).model), samples


def bound_images(integers: IntegerCnn, sample: Samples, geometry: Geometry) -> BoundProgram:
    """A program whose tensors all keep their places, bound to a sample."""
    return bind_sample(compile_cnn(integers, design_of(geometry), keep=True), sample)


def differing(integers: IntegerCnn, sample: Samples, bound: BoundProgram, executed: Executed) -> list[str]:
    """Names of the tensors in DRAM that differ from the integer layers' results."""
    found, images = [], {image.name: image for image in bound.program.images}
    for tensor, values in run_integers(integers, sample[None]):
        image = images.get(tensor.name)
        if image is None:
            continue
        stored = image_values(image, executed.dram[Segment[image.segment.upper()]])
        if not np.array_equal(stored, values[0]):
            found.append(tensor.name)
    return found


def computes_logits(integers: IntegerCnn, sample: Samples, geometry: Geometry) -> bool:
    """Whether a program as users run it, whose tensors take each other's places, has the integer layers' logits."""
    bound = bind_sample(compile_cnn(integers, design_of(geometry)), sample)
    image = next(one for one in bound.program.images if one.name == integers.output.name)
    found = image_values(image, run_golden(bound).dram[Segment[image.segment.upper()]])
    return np.array_equal(found, logits(integers, sample[None])[0])


def in_runtime(model: onnx.ModelProto, read: IntegerCnn, samples: Samples) -> dict[str, Integers]:
    """Every stored tensor and the logits in onnxruntime, as integers in the overlay's order."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    names = [name for name in read.stored if name not in (read.input.name, read.output.name)]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    arrays = run_model(exposed, {read.input.name: samples}, [read.output.name, *names])
    found = {}
    for name, array in zip([read.output.name, *names], arrays, strict=True):
        steps = array.astype(np.float64) / read.stored[name].scale
        assert np.array_equal(steps, np.rint(steps))
        found[name] = (steps.transpose(0, 2, 3, 1) if steps.ndim == 4 else steps).astype(np.int64)
    return found
