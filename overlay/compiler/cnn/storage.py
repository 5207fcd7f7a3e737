# SPDX-License-Identifier: Apache-2.0
"""Form and place of each tensor of a network: samples, feature maps whose places are used again, logits."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from hetfab.overlay.compiler.cnn.depthwise_code import runs_on_dw
from hetfab.overlay.compiler.cnn.feature_maps import PIXEL_CHANNELS, FeatureMap
from hetfab.overlay.compiler.cnn.mixed_layers import reading_ends
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import LimitExceededError
from hetfab.overlay.images import Image
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import padded
from hetfab.overlay.model.cnn.integer import IntegerCnn, Largest, Product, Stored
from hetfab.overlay.model.cnn.interpreter import reads

_BLOCK = isa().block_bytes
_BEAT = isa().size("beat_bytes")
_NIBBLE_BITS = 4
_LOGIT_BITS = 32
_SEGMENTS = {"features": Segment.FEATURES, "activations": Segment.ACTIVATIONS, "output": Segment.OUTPUT}
_LARGEST_LINE = isa().operation("store_runs").field("stride_blocks").largest
#: Blocks behind the samples: the last window reads whole beats, of which some lie behind the last line.
_SPARE_BLOCKS = 4


def image_forms(model: IntegerCnn, geometry: Geometry) -> dict[str, Image]:
    """Form of every stored tensor; feature maps have no places yet."""
    found: dict[str, Image] = {}
    bits = _item_bits(model)
    for tensor in model.stored.values():
        if tensor is model.input:
            found[tensor.name] = _samples(model, geometry)
        elif tensor is model.output:
            found[tensor.name] = _image(tensor, _LOGIT_BITS, "output")
        else:
            found[tensor.name] = _image(tensor, bits[tensor.name], "activations")
    return found


def _item_bits(model: IntegerCnn) -> dict[str, int]:
    """Bits that an integer of each tensor takes: 4 where all that read it take nibbles, else 8.

    A core takes nibbles where its weights have at most 4 bits too; the largest of windows are stored as they were.
    """
    wide = {layer.input.name for layer in model.products() if int(layer.weight_bits.max()) > _NIBBLE_BITS}
    wide |= {tensor.name for tensor in model.stored.values() if tensor.bits > _NIBBLE_BITS} | {model.input.name}
    pools = [(layer.input.name, layer.output.name) for layer in model.layers if isinstance(layer, Largest)]
    while True:
        more = {name for pair in pools for name in pair if wide & set(pair)} - wide
        if not more:
            return {name: 8 if name in wide else 4 for name in model.stored}
        wide |= more


def gathers(model: IntegerCnn, geometry: Geometry) -> bool:
    """Whether LOAD cuts windows out of the samples, so that their channels need no padding.

    One convolution alone reads them then, on the cores; its padding is stored around the image.
    """
    readers = [layer for layer in model.layers if model.input in reads(layer)]
    if len(readers) != 1 or not isinstance(readers[0], Product) or readers[0].window is None:
        return False
    layer, window = readers[0], readers[0].window
    assert window is not None
    if layer.residual is model.input or runs_on_dw(layer, geometry):
        return False
    channels = model.input.shape[-1]
    operation = isa().operation("configure_windows")
    run = padded(-(-window.reach[1] * channels // _BEAT), 4)
    return (
        run + 1 <= geometry.gather_beats
        and run <= operation.field("run_beats").largest
        and window.strides[1] * channels <= operation.field("step_bytes").largest
        and channels < PIXEL_CHANNELS
    )


def feature_map(image: Image) -> FeatureMap:
    """An image as the code of layers sees it."""
    _, columns, channels = image.pixels
    return FeatureMap(
        name=image.name,
        rows=image.rows,
        columns=columns,
        channels=channels,
        item_bits=image.item_bits,
        signed=image.signed,
        segment=_SEGMENTS[image.segment],
        offset=image.offset,
        pixel_bytes=image.pixel_bytes,
        row_blocks=image.row_bytes // _BLOCK,
    )


def _image(tensor: Stored, bits: int, segment: str) -> Image:
    rows, columns, channels = tensor.shape if len(tensor.shape) == 3 else (1, 1, tensor.shape[0])
    unit = 8 if bits == _LOGIT_BITS else PIXEL_CHANNELS
    pixel_bytes = padded(channels, unit) * bits // 8
    row_bytes = padded(columns * pixel_bytes, _BLOCK)
    return Image(
        name=tensor.name,
        shape=tensor.shape,
        bits=tensor.bits,
        signed=tensor.signed,
        scale=tensor.scale,
        segment=segment,
        offset=0,
        item_bits=bits,
        rows=rows,
        above=0,
        left=0,
        pixel_bytes=pixel_bytes,
        row_bytes=row_bytes,
        size_bytes=rows * row_bytes,
    )


def _samples(model: IntegerCnn, geometry: Geometry) -> Image:
    """The input in bytes, as LOAD takes it."""
    whole = _image(model.input, 8, "features")
    if not gathers(model, geometry):
        return whole
    (layer,) = (layer for layer in model.products() if layer.input is model.input)
    assert layer.window is not None
    above, left, below, right = layer.window.pads
    rows, columns, channels = model.input.shape
    row_bytes = padded((left + columns + right) * channels, _BLOCK)
    lines = above + rows + below
    size = lines * row_bytes + _SPARE_BLOCKS * _BLOCK
    return replace(
        whole, rows=lines, above=above, left=left, pixel_bytes=channels, row_bytes=row_bytes, size_bytes=size
    )


def placed_images(
    model: IntegerCnn, images: Mapping[str, Image], fused: Collection[int], geometry: Geometry, *, keep: bool = False
) -> dict[str, Image]:
    """Images with places: feature maps take the first room that is free from their layer to their last reader.

    Args:
        model: The network.
        images: Forms of all stored tensors.
        fused: Layers whose results the next layer takes on chip; they have no image.
        geometry: The design's geometry.
        keep: Whether every image has a place of its own, so that all can be read after a run.

    Raises:
        LimitExceededError: A line of a feature map is longer than instructions can say.
    """
    last: dict[str, int] = {}
    for layer, end in zip(model.layers, reading_ends(model, fused, geometry), strict=True):
        last |= {one.name: max(end, last.get(one.name, 0)) for one in (*reads(layer), layer.output)}
    placed = {name: image for name, image in images.items() if image.segment != "activations"}
    live: list[tuple[Image, int]] = []
    for index, layer in enumerate(model.layers):
        image = images[layer.output.name]
        if image.segment != "activations" or index in fused:
            continue
        live = [(other, end) for other, end in live if keep or end >= index]
        _check_line(image)
        image = replace(image, offset=_first_room(image.size_bytes, [other for other, _ in live]))
        live.append((image, last[image.name]))
        placed[image.name] = image
    return placed


def _check_line(image: Image) -> None:
    """Refuses an image whose lines lie further apart than STORE's instructions say."""
    blocks = image.row_bytes // _BLOCK
    if blocks > _LARGEST_LINE:
        raise LimitExceededError(
            f"a line of '{image.name}' takes {blocks:,} blocks of {_BLOCK} bytes",
            f"at most {_LARGEST_LINE:,}, what the field 'stride_blocks' of 'store_runs' holds",
            "use narrower images or fewer channels",
        )


def _first_room(size: int, taken: list[Image]) -> int:
    offset = 0
    for other in sorted(taken, key=lambda image: image.offset):
        if offset + size <= other.offset:
            break
        offset = max(offset, other.offset + other.size_bytes)
    return offset
