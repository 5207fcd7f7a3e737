# SPDX-License-Identifier: Apache-2.0
"""Compiles a quantized network on samples: from its ONNX model to a program with its hash and binding."""

from collections.abc import Collection
from dataclasses import replace

from hetfab.overlay.board import Board, read_board
from hetfab.overlay.compiler.cnn.fusing import fused_pairs
from hetfab.overlay.compiler.cnn.network import compile_cnn
from hetfab.overlay.compiler.cnn.storage import image_forms, placed_images
from hetfab.overlay.design import Design
from hetfab.overlay.errors import LimitExceededError
from hetfab.overlay.images import Image
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.model.binding import to_json
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.cnn.integer import IntegerCnn
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.reader import model_hash
from hetfab.overlay.program import Program

_INSTRUCTION_BYTES = isa().instruction_bits // 8


def compile_on_samples(given: BoundModel, design: Design, *, name: str = "model") -> Program:
    """Compiles a quantized network on samples.

    Args:
        given: The model and its binding.
        design: The design to compile for.
        name: Name of the model, for reports.

    Raises:
        InputError: One of the errors of ``read_integers`` and ``compile_cnn``.
        LimitExceededError: Program, weights, samples and feature maps need more than the board's contiguous DRAM, or
            than its DRAM where the former is not known.
    """
    program = compile_integers(read_integers(given.model), design, name=name)
    return replace(program, model_hash=model_hash(given.model), bindings=to_json(given.bindings))


def compile_integers(integers: IntegerCnn, design: Design, *, name: str = "model") -> Program:
    """The same program without the model's hash, which takes reading all of it, and without its binding.

    Args:
        integers: The model's integer layers.
        design: The design to compile for.
        name: Name of the model, for reports.

    Raises:
        InputError: One of the errors of ``compile_cnn``.
        LimitExceededError: As ``compile_on_samples``.
    """
    board = read_board(design.board)
    forms, fused = image_forms(integers, design.geometry), frozenset(fused_pairs(integers, design.geometry))
    least = placed_images(integers, forms, fused, design.geometry).values()
    _check_dram(board, least, _least_weight_bytes(integers), "at least ")
    program = compile_cnn(integers, design, name=name)
    _check_dram(board, program.images, program.constants.size + program.instructions * _INSTRUCTION_BYTES, "")
    return program


def _least_weight_bytes(model: IntegerCnn) -> int:
    """Bytes that weights take however they lie; known before the network is compiled."""
    bits = (layer.weight_bits * (layer.weight.size // layer.weight_bits.size) for layer in model.products())
    return sum(int(layer.sum()) for layer in bits) // 8


def _check_dram(board: Board, images: Collection[Image], constants: int, bound: str) -> None:
    """Refuses a network that the board's memory cannot hold.

    Args:
        board: The board.
        images: Samples, feature maps and logits.
        constants: Bytes of the weights and the program, or some of them.
        bound: What stands before the need.
    """
    segments = {image.segment for image in images}
    maps = sum(max(one.offset + one.size_bytes for one in images if one.segment == segment) for segment in segments)
    has, verb = board.contiguous_bytes, "allocates"
    if has is None:
        has, verb = board.dram_low_bytes, "has"
    if constants + maps > has:
        raise LimitExceededError(
            f"the network needs {bound}{constants + maps:,} bytes of DRAM: {constants:,} for weights and program, "
            f"{maps:,} for samples and feature maps",
            f"at most {has:,}, what the board '{board.name}' {verb}",
            "use a smaller network or images, or a design for a board with more",
        )
