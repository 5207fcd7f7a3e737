# SPDX-License-Identifier: Apache-2.0
"""Binds a program of a network on samples to one sample: rounds it, pads it, and lays out the segments.

Only numpy is needed, so that a board can bind.
"""

import numpy as np
import numpy.typing as npt

from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.errors import LimitExceededError, SamplesInvalidError
from hetfab.overlay.expansion import expand
from hetfab.overlay.images import Bytes, Image, image_bytes
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.order import check_order
from hetfab.overlay.program import Program


def bind_sample(program: Program, sample: npt.NDArray[np.float32]) -> BoundProgram:
    """Binds a program to a sample.

    Args:
        program: Of a network on samples.
        sample: float32, of the model's input without the batch: [channels, rows, columns], or [columns].

    Raises:
        SamplesInvalidError: The program reads a graph, or the sample has another shape.
        LimitExceededError: A segment is larger than offsets can name.
    """
    features = sample_bytes(program, sample)
    words, layers = expand(program, {}, np.zeros(0, np.int64))
    check_order(words)
    sizes = dict.fromkeys(Segment, 0)
    for image in program.images:
        segment = Segment[image.segment.upper()]
        sizes[segment] = max(sizes[segment], image.offset + image.size_bytes)
    contents = {
        Segment.PROGRAM: words.view(np.uint8).reshape(-1),
        Segment.CONSTANTS: program.constants,
        Segment.FEATURES: features,
        Segment.GRAPH: np.zeros(isa().block_bytes, np.uint8),
    }
    sizes |= {segment: content.size for segment, content in contents.items()}
    for segment, size in sizes.items():
        if size >= 1 << isa().offset_bits:
            raise LimitExceededError(
                f"the segment '{segment.name.lower()}' needs {size} bytes",
                f"less than {1 << isa().offset_bits} bytes, what a program's offsets can name",
                "use a smaller network",
            )
    offsets = {image.name: image.offset for image in program.images}
    return BoundProgram(program, words, layers, contents, sizes, offsets, {"sample": 1}, {})


def sample_bytes(program: Program, sample: npt.NDArray[np.float32]) -> Bytes:
    """A sample as the features segment holds it.

    Args:
        program: Of a network on samples.
        sample: As ``bind_sample`` takes it.

    Raises:
        SamplesInvalidError: The program reads a graph, or the sample has another shape.
    """
    shape = sample_shape(program)
    if sample.shape != shape:
        raise SamplesInvalidError(
            f"a sample has the shape {list(sample.shape)}",
            f"{list(shape)}, as the model takes it",
            "use samples of that shape",
        )
    image = _samples(program)
    return image_bytes(image, _rounded(image, sample))


def sample_shape(program: Program) -> tuple[int, ...]:
    """Shape of a sample as the model takes it: [channels, rows, columns], or [columns].

    Raises:
        SamplesInvalidError: The program reads a graph.
    """
    image = _samples(program)
    rows, columns, channels = image.pixels
    return (channels, rows, columns) if len(image.shape) == 3 else (channels,)


def _samples(program: Program) -> Image:
    if program.samples is None:
        raise SamplesInvalidError(
            f"the program of '{program.model_name}' reads a graph",
            "a program of a network on samples",
            "give a graph in place of samples (`--graph GRAPH`)",
        )
    return program.samples


def _rounded(image: Image, sample: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    lowest = -(1 << image.bits - 1) if image.signed else 0
    highest = (1 << image.bits - image.signed) - 1
    steps = np.rint(np.clip(sample.astype(np.float64) / image.scale, lowest, highest)).astype(np.int64)
    return steps.transpose(1, 2, 0) if steps.ndim == 3 else steps
