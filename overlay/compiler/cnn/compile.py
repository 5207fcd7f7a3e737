# SPDX-License-Identifier: Apache-2.0
"""Compiles a quantized network on samples: from its ONNX model to a program with its hash and binding."""

from dataclasses import replace

from hetfab.overlay.board import read_board
from hetfab.overlay.compiler.cnn.network import compile_cnn
from hetfab.overlay.design import Design
from hetfab.overlay.errors import LimitExceededError
from hetfab.overlay.model.binding import to_json
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.reader import model_hash
from hetfab.overlay.program import Program


def compile_on_samples(given: BoundModel, design: Design, *, name: str = "model") -> Program:
    """Compiles a quantized network on samples.

    Args:
        given: The model and its binding.
        design: The design to compile for.
        name: Name of the model, for reports.

    Raises:
        InputError: One of the errors of ``read_integers`` and ``compile_cnn``.
        LimitExceededError: Program, weights, samples and feature maps need more than the board's contiguous DRAM.
    """
    program = compile_cnn(read_integers(given.model), design, name=name)
    _check_dram(program)
    return replace(program, model_hash=model_hash(given.model), bindings=to_json(given.bindings))


def _check_dram(program: Program) -> None:
    needed = program.constants.size + program.instructions * 16
    for segment in {image.segment for image in program.images}:
        needed += max(one.offset + one.size_bytes for one in program.images if one.segment == segment)
    board = read_board(program.design.board)
    if board.contiguous_bytes is not None and needed > board.contiguous_bytes:
        raise LimitExceededError(
            f"the network needs {needed:,} bytes of DRAM, of which weights take {program.constants.size:,}",
            f"at most {board.contiguous_bytes:,}, what the board '{board.name}' allocates",
            "use a smaller network or images, or a design for a board with more",
        )
