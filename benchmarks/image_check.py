# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 and MobileNetV2 at ImageNet shapes in the emulator: what every layer leaves in DRAM, against golden models.

Weights, sample and sampled tiles are seeded; inner layers are W4A4, the first and the last one W8A8. For each network

1. all DRAM after a run with plain bodies equals that after host bodies, and after the golden model of instructions;
2. every number of every tensor in DRAM equals that of the integer layers;
3. tiles of each layer are computed again by ``tile_values``, which is written from docs/convolution.md alone: all that
   touch the border of the image, and as many inside, from what the layers before left in DRAM.

A tensor that stays on chip is named as such: what is computed from it is compared.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.gemm_model import for_depthwise
from benchmarks.image_networks import NETWORKS
from benchmarks.report import Report, argument_parser, publish
from hetfab.hls.build.emulator import Bodies, Emulator, Progress, build_emulator
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.bind_samples import bind_sample
from hetfab.overlay.compiler.cnn.network import compile_cnn
from hetfab.overlay.design import IMAGE_DESIGN, Design, Geometry, default_design
from hetfab.overlay.images import image_values
from hetfab.overlay.isa.arithmetic import Integers
from hetfab.overlay.isa.codec import RegisterOffset, Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.cnn.integer import (
    Average,
    Ending,
    Finish,
    IntegerCnn,
    IntegerLayer,
    Largest,
    Product,
    Stored,
    Sum,
)
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.interpreter import reads, run_integers
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.model.reader import bindings_of
from hetfab.quantize.cnn.post_training import quantize_cnn
from hetfab.quantize.widths import Widths

Samples = npt.NDArray[np.float32]
Memories = dict[Segment, npt.NDArray[np.uint8]]

SIZE = 224
INNER, EDGES = Widths(4, 4), Widths(8, 8)
#: Seeds of each network: weights, sample, tiles.
SEEDS = (7, 2, 5)
#: A tile: lines, pixels of a line, channels.
TILE = (4, 4, 8)
#: Tiles of a layer that are computed again at least, where it has as many.
TILES = 64
_FIRST_ADDRESS = 0x2000_0000
_GAP = 0x1_0000
_PASSES = 1 << 31
_TERM = 1 << 23
_HEADINGS = ["network, tensor", "kind", "shape", "tiles", "corners", "edges", "differ", "values", "differ"]


@dataclass(frozen=True)
class Tile:
    """Some pixels and channels of an image.

    Attributes:
        rows: First and behind the last line; likewise the others.
        columns: Pixels of a line.
        channels: Channels.
        corner: Whether it holds a corner of the image.
        edge: Whether it touches an edge of the image.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    channels: tuple[int, int]
    corner: bool
    edge: bool

    def of(self, image: Integers) -> Integers:
        """Its values in an image [rows, columns, channels]."""
        return image[slice(*self.rows), slice(*self.columns), slice(*self.channels)]


@dataclass(frozen=True)
class LayerCheck:
    """What was compared of a layer.

    Attributes:
        name: Of its output.
        kind: Of the layer.
        shape: Of its output.
        on_chip: Whether its output never is in DRAM; nothing of it is compared then.
        tiles: Tiles that were computed again.
        corners: Those of them at corners of the image.
        edges: Those at its edges, corners included.
        tiles_differing: Those of them with another value in DRAM.
        values: Values of the whole tensor.
        values_differing: Those that are not the integer layers'.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    on_chip: bool
    tiles: int = 0
    corners: int = 0
    edges: int = 0
    tiles_differing: int = 0
    values: int = 0
    values_differing: int = 0


@dataclass(frozen=True)
class NetworkCheck:
    """What was compared of a network; bytes are those of all segments."""

    layers: tuple[LayerCheck, ...]
    instructions: int
    dram_bytes: int
    differing_of_bodies: int
    differing_of_golden: int

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        differing = sum(layer.tiles_differing + layer.values_differing for layer in self.layers)
        return not differing + self.differing_of_bodies + self.differing_of_golden


def main() -> None:
    """Prints the table and the JSON line."""
    arguments = argument_parser(__doc__).parse_args()
    designs = {"resnet18": default_design(IMAGE_DESIGN), "mobilenet_v2": for_depthwise()}
    rows: list[list[object]] = []
    values: dict[str, object] = dict(zip(("weight_seed", "sample_seed", "tile_seed"), SEEDS, strict=True))
    for name, design in designs.items():
        found = checked(*quantized(name, SIZE, SEEDS[:2]), design, SEEDS[2])
        rows += [[f"{name}, {layer.name}", *_cells(layer)] for layer in found.layers]
        values |= {f"{name}_{key}": value for key, value in totals(found).items()}
    title = f"one sample of {SIZE} x {SIZE}, W4A4 with W8A8 ends, emulated: against golden models"
    publish(Report(title, _HEADINGS, rows, values), arguments.as_json)


def totals(found: NetworkCheck) -> dict[str, int]:
    """The figures of a network."""
    stored = [layer for layer in found.layers if not layer.on_chip]
    return {
        "layers": len(found.layers),
        "layers_on_chip": len(found.layers) - len(stored),
        "tiles": sum(layer.tiles for layer in stored),
        "fewest_tiles_of_a_layer": min(layer.tiles for layer in stored),
        "corner_tiles": sum(layer.corners for layer in stored),
        "edge_tiles": sum(layer.edges for layer in stored),
        "tiles_differing": sum(layer.tiles_differing for layer in stored),
        "values": sum(layer.values for layer in stored),
        "values_differing": sum(layer.values_differing for layer in stored),
        "instructions": found.instructions,
        "dram_bytes": found.dram_bytes,
        "bytes_differing_plain_and_host": found.differing_of_bodies,
        "bytes_differing_plain_and_golden": found.differing_of_golden,
    }


def _cells(layer: LayerCheck) -> list[object]:
    shape = " x ".join(map(str, layer.shape))
    if layer.on_chip:
        return [layer.kind, shape, "on chip", "", "", "", "", ""]
    tiles = [layer.tiles, layer.corners, layer.edges, layer.tiles_differing]
    return [layer.kind, shape, *tiles, f"{layer.values:,}", layer.values_differing]


def quantized(name: str, size: int, seeds: tuple[int, ...], *, width: float = 1.0) -> tuple[IntegerCnn, Samples]:
    """A network's integer layers and the sample that it is calibrated with.

    Args:
        name: Of the network.
        size: Rows and columns of the sample.
        seeds: Of weights and sample.
        width: Factor of the channels.
    """
    model = NETWORKS[name](seeds[0], size=size, width=width)
    sample = np.random.default_rng(seeds[1]).normal(size=(3, size, size)).astype(np.float32)
    fed = FedModel(model, bindings_of(model), [{model.graph.input[0].name: sample[None]}])
    return read_integers(quantize_cnn(fed, widths=INNER, edges=EDGES).model), sample


def checked(
    network: IntegerCnn,
    sample: Samples,
    design: Design,
    tile_seed: int,
    *,
    bodies: tuple[Bodies, ...] = (Bodies.PLAIN, Bodies.HOST),
) -> NetworkCheck:
    """Runs a network on a design in emulators and the golden model, and compares.

    Args:
        network: Its integer layers.
        sample: As the model takes it, float32 [channels, rows, columns].
        design: The design; its emulators are built on first use.
        tile_seed: Of the tiles that are computed again.
        bodies: Of the emulators; the layers are compared with what the first one leaves.
    """
    bound = bind_sample(compile_cnn(network, design, keep=True), sample)
    first, *others = (emulated(bound, one) for one in bodies)
    golden = golden_run(bound)
    return NetworkCheck(
        layers=tuple(_layer_checks(network, sample, bound, first, np.random.default_rng(tile_seed))),
        instructions=len(bound.words),
        dram_bytes=sum(memory.size for memory in first.values()),
        differing_of_bodies=sum(_bytes_differing(first, other) for other in others),
        differing_of_golden=_bytes_differing(first, golden),
    )


def _bytes_differing(left: Memories, right: Memories) -> int:
    return sum(int((left[segment] != right[segment]).sum()) for segment in Segment)


def emulated(bound: BoundProgram, bodies: Bodies) -> Memories:
    """DRAM after a run in the emulator."""
    geometry: Geometry = bound.program.design.geometry
    memories = _before(bound)
    with Emulator(build_emulator(geometry, bodies=bodies), geometry) as emulator:
        for segment, (address, memory) in memories.items():
            emulator.map_memory(address, memory)
            emulator.write_register(RegisterOffset[f"SEGMENT_BASE_{segment.name}_LOW"], address)
            emulator.write_register(RegisterOffset[f"SEGMENT_SIZE_{segment.name}_LOW"], memory.size)
        emulator.write_register(RegisterOffset.PROGRAM_LENGTH, len(bound.words))
        emulator.write_register(RegisterOffset.CONTROL, 1)
        progress = emulator.advance(_PASSES)
        if progress is not Progress.DONE:
            raise SystemExit(f"the run ended with {progress.name}: {emulator.message()}")
    return {segment: memory for segment, (_, memory) in memories.items()}


def golden_run(bound: BoundProgram) -> Memories:
    """DRAM after a run in the golden model of instructions."""
    machine, memories = GoldenMachine(bound.program.design.geometry), _before(bound)
    for segment, (address, memory) in memories.items():
        machine.map_memory(address, memory)
        machine.segments[segment.name.lower()] = address, memory.size
    machine.run(bound.words.astype("<u8").tobytes())
    return {segment: memory for segment, (_, memory) in memories.items()}


def _before(bound: BoundProgram) -> dict[Segment, tuple[int, npt.NDArray[np.uint8]]]:
    """Address and content of each segment before a run: seeded noise where the program has to write."""
    noise, address = np.random.default_rng(0), _FIRST_ADDRESS
    memories = {}
    for segment in Segment:
        memory = noise.integers(0, 256, max(bound.sizes[segment], 64), dtype=np.uint8)
        content = bound.contents.get(segment, memory[:0])
        memory[: content.size] = content
        memories[segment] = address, memory
        address += memory.size + -memory.size % _GAP
    return memories


def _layer_checks(
    network: IntegerCnn, sample: Samples, bound: BoundProgram, dram: Memories, random: np.random.Generator
) -> Iterator[LayerCheck]:
    images = {image.name: image for image in bound.program.images}
    tensors: dict[str, Integers] = {}
    layers = {layer.output.name: layer for layer in network.layers}
    for tensor, (expected,) in run_integers(network, sample[None]):
        image = images.get(tensor.name)
        tensors[tensor.name] = expected if image is None else image_values(image, dram[Segment[image.segment.upper()]])
        if tensor.name in layers:
            layer = layers[tensor.name]
            kind = kind_of(layer)
            if image is None:
                yield LayerCheck(tensor.name, kind, tensor.shape, on_chip=True)
            else:
                differing = int((tensors[tensor.name] != expected).sum())
                counts = _tile_counts(layer, tensors, random)
                yield LayerCheck(tensor.name, kind, tensor.shape, False, *counts, expected.size, differing)


def kind_of(layer: IntegerLayer) -> str:
    """A layer in one or two words."""
    match layer:
        case Product(window=None):
            return "dense"
        case Product():
            kind = "depthwise" if layer.depthwise else "conv"
            return kind if layer.residual is None else f"{kind} + add"
        case Average():
            return "mean"
        case Sum():
            return "add"
    return "largest"


def _tile_counts(
    layer: IntegerLayer, tensors: Mapping[str, Integers], random: np.random.Generator
) -> tuple[int, int, int, int]:
    """Tiles that are computed again: all, corners, edges, those that differ."""
    found = as_image(tensors[layer.output.name])
    operands = [as_image(tensors[read.name]) for read in reads(layer)]
    chosen = sampled(tiles_of(found.shape), random)
    differing = sum(not np.array_equal(tile.of(found), tile_values(layer, operands, tile)) for tile in chosen)
    return len(chosen), sum(tile.corner for tile in chosen), sum(tile.edge for tile in chosen), differing


def as_image(values: Integers) -> Integers:
    """Values [rows, columns, channels]; a row of numbers is one pixel."""
    return values if values.ndim == 3 else values.reshape(1, 1, -1)


def tiles_of(shape: tuple[int, ...]) -> list[Tile]:
    """An image cut into tiles."""
    rows, columns, channels = (
        [(first, min(first + step, size)) for first in range(0, size, step)]
        for size, step in zip(shape, TILE, strict=True)
    )
    found = []
    for row in rows:
        for column in columns:
            outer = row[0] == 0 or row[1] == shape[0], column[0] == 0 or column[1] == shape[1]
            found += [Tile(row, column, channel, all(outer), any(outer)) for channel in channels]
    return found


def sampled(tiles: list[Tile], random: np.random.Generator) -> list[Tile]:
    """All tiles at edges, and as many others as are asked for at least, in any order."""
    inner = [tile for tile in tiles if not tile.edge]
    chosen = random.permutation(len(inner))[:TILES]
    return [tile for tile in tiles if tile.edge] + [inner[index] for index in chosen]


def tile_values(layer: IntegerLayer, operands: list[Integers], tile: Tile) -> Integers:
    """A tile of a layer's output, int64 [rows, columns, channels], by the rules of docs/convolution.md.

    Args:
        layer: The layer.
        operands: What it reads, int64 [rows, columns, channels] each.
        tile: The tile.
    """
    chosen = slice(*tile.channels)
    match layer:
        case Largest(input=read, window=window):
            return np.asarray(
                taps(operands[0], window, tile, padding=read.lowest)[..., chosen].max(axis=(2, 3)), dtype=np.int64
            )
        case Sum():
            return rounded(256 * tile.of(operands[0] + operands[1]), layer.finish, layer.output)
        case Average(window=window):
            sums = taps(operands[0], window, tile)[..., chosen].sum(axis=(2, 3))
            divisors = layer.divisors[slice(*tile.rows), slice(*tile.columns), None]
            return rounded(mean_q8(sums, divisors), layer.finish, layer.output)
    assert isinstance(layer, Product)
    sums = product_sums(layer, operands[0], tile) + layer.bias[chosen]
    if layer.finish.ending is Ending.EXPORT_ACCUMULATORS:
        return sums
    scaled = half_to_even(sums * layer.multiplier[chosen], layer.shift)
    if layer.residual is None:
        return limited(scaled, layer.finish, layer.output)
    term = np.clip(scaled, -_TERM, _TERM - 1)
    return rounded(256 * tile.of(operands[1]) + term, layer.finish, layer.output)


def product_sums(layer: Product, image: Integers, tile: Tile) -> Integers:
    """Sums of products of a convolution or a dense layer, without the bias."""
    first, last = tile.channels
    if layer.window is None:
        return np.asarray((image.reshape(-1, 1) * layer.weight[0, 0, :, first:last]).sum(axis=0))[None, None]
    pixels = taps(image, layer.window, tile).astype(np.float64)
    inputs, outputs = layer.weight.shape[2], layer.weight.shape[3] // layer.groups
    sums = np.zeros((*pixels.shape[:2], last - first), np.int64)
    for group in range(first // outputs, -(-last // outputs)):
        written = slice(max(first, group * outputs), min(last, (group + 1) * outputs))
        read = pixels[..., group * inputs : (group + 1) * inputs]
        # Whole numbers below 2^53: exact.
        found = np.tensordot(read, layer.weight[..., written].astype(np.float64), axes=3)
        sums[..., written.start - first : written.stop - first] = found
    return sums


def taps(image: Integers, window: Window, tile: Tile, *, padding: int = 0) -> Integers:
    """The pixels under each position of a tile, int64 [rows, columns, kernel rows, kernel columns, channels]."""
    places, inside = [], []
    for axis, (first, last) in enumerate((tile.rows, tile.columns)):
        starts = np.arange(first, last) * window.strides[axis] - window.pads[axis]
        place = starts[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        inside.append((place >= 0) & (place < image.shape[axis]))
        places.append(np.clip(place, 0, image.shape[axis] - 1))
    pixels = image[places[0][:, None, :, None], places[1][None, :, None, :]]
    on_image = inside[0][:, None, :, None] & inside[1][None, :, None, :]
    return np.asarray(np.where(on_image[..., None], pixels, padding))


def mean_q8(sums: Integers, divisors: Integers) -> Integers:
    """Means in Q.8 by the reciprocal of 17 bits of each divisor."""
    exponents = np.ceil(np.log2(divisors)).astype(np.int64)
    reciprocals = np.floor(2.0 ** (16 + exponents) / divisors + 0.5).astype(np.int64)
    return np.asarray((sums * reciprocals + 2 ** (exponents + 7)) // 2 ** (exponents + 8))


def rounded(q8: Integers, finish: Finish, output: Stored) -> Integers:
    """A sum in Q.8 as it is stored, or as logits."""
    if finish.ending is Ending.EXPORT_SUMS:
        return q8
    return limited(half_to_even(q8 << finish.post_left, finish.post_shift), finish, output)


def half_to_even(numbers: Integers, shift: int) -> Integers:
    """Numbers over 2^shift, halves to the even neighbour; float64 holds them, since they stay below 2^53."""
    return np.rint(numbers / 2.0**shift).astype(np.int64)


def limited(numbers: Integers, finish: Finish, output: Stored) -> Integers:
    """Numbers within a width, or within what ReLU or Clip leaves of it."""
    return np.clip(numbers, 0 if finish.rectified else output.lowest, finish.highest)


if __name__ == "__main__":
    main()
