# SPDX-License-Identifier: Apache-2.0
"""Random short streams that DISPATCH can issue and engines can execute, with any number of semaphores missing."""

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Engine, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack, program_address

SEGMENT_BYTES = 1 << 13
BASES = {segment: 0x1000_0000 + SEGMENT_BYTES * 16 * int(segment) for segment in Segment}
SEGMENTS = {segment: (base, SEGMENT_BYTES) for segment, base in BASES.items()}
LONGEST = 18
_SMALL = st.integers(0, 3)


def _address(draw: st.DrawFn) -> int:
    segment = draw(st.sampled_from([Segment.FEATURES, Segment.ACTIVATIONS, Segment.ACTIVATIONS]))
    return program_address(segment, 64 * draw(st.integers(0, 5)))


def _copy(draw: st.DrawFn, words_per_block: int) -> dict[str, int]:
    return {
        "ram": words_per_block * draw(_SMALL) // 2,
        "rows": draw(st.integers(0, 3)),
        "row_blocks": draw(st.integers(1, 2)),
        "stride_blocks": draw(st.integers(0, 4)),
        "address": _address(draw),
    }


@st.composite
def instructions(draw: st.DrawFn) -> int:
    """One instruction of any engine, in the first words of the memories of the small design."""
    match draw(st.integers(0, 9)):
        case 0:
            return codec.load_activations(**_copy(draw, 8))
        case 1:
            return codec.load_weights(**_copy(draw, 8))
        case 2:
            return codec.load_parameters(**{**_copy(draw, 1), "rows": draw(st.integers(0, 2))})
        case 3:
            return codec.store_rows(**_copy(draw, 8))
        case 4:
            return codec.matmul(
                act=8 * draw(_SMALL), wgt=8 * draw(_SMALL), accumulate=draw(st.integers(0, 1)), unsigned=0,
                acc=4 * draw(_SMALL), rows=draw(st.integers(0, 8)), k_words=1, col_groups=draw(st.integers(0, 2)),
            )  # fmt: skip
        case 5:
            return codec.requantize(
                acc=4 * draw(_SMALL), relu=0, unsigned=0, out_bits=7, acc_groups=1, out=8 * draw(_SMALL),
                par=draw(_SMALL), rows=draw(st.integers(0, 4)), groups=1, row_blocks=1, shift=0,
            )  # fmt: skip
        case 6:
            return codec.combine(
                acc=4 * draw(_SMALL), sum=4 * draw(_SMALL), relu=0, unsigned=0, out_bits=7,
                with_acc=draw(st.integers(0, 1)), acc_groups=1, out=8 * draw(_SMALL), par=draw(_SMALL),
                rows=draw(st.integers(0, 4)), groups=1, row_blocks=1, shift=0, post_shift=0, post_left=0,
            )  # fmt: skip
        case 7:
            return codec.reduce(
                slot=draw(st.integers(0, 1)), rows=draw(st.integers(0, 4)), mode=0, unsigned=0,
                accumulate=draw(st.integers(0, 1)), groups=draw(st.integers(0, 1)), destination=0, sum=4 * draw(_SMALL),
            )  # fmt: skip
        case 8:
            return codec.configure_features(
                slot=draw(st.integers(0, 1)), row_blocks=draw(st.integers(1, 3)), count=draw(st.integers(0, 4)),
                address=_address(draw),
            )  # fmt: skip
        case _:
            return codec.sync(engine=draw(st.sampled_from(list(Engine))))


def _contexts() -> list[int]:
    """Contexts without edges: every destination has the degree zero."""
    graph = program_address(Segment.GRAPH, 0)
    return [
        word
        for slot in (0, 1)
        for word in (
            codec.configure_features(slot=slot, row_blocks=1, count=1, address=program_address(Segment.ACTIVATIONS, 0)),
            codec.configure_destinations(slot=slot, count=4, address=graph),
            codec.configure_ids(slot=slot, edges=0, id_bytes=2, address=graph),
        )
    ]


@st.composite
def streams(draw: st.DrawFn) -> npt.NDArray[np.uint64]:
    """A stream whose every wait comes after its signal; each pair of engines has a semaphore of its own."""
    words = _contexts() + draw(st.lists(instructions(), min_size=1, max_size=LONGEST))
    engine = isa().header_field("engine")
    places = st.integers(0, len(words) - 1)
    for one, other in draw(st.lists(st.tuples(places, places), max_size=2 * LONGEST)):
        first, second = sorted((one, other))
        source, target = engine.get(words[first]), engine.get(words[second])
        if first == second or source == target:
            continue
        semaphore = 1 + source * len(Engine) + target
        signal = _free(words[first], ("signal0", "signal1"))
        wait = _free(words[second], ("wait0", "wait1"))
        if signal and wait:
            words[first] |= semaphore << isa().header_field(signal).lsb
            words[second] |= semaphore << isa().header_field(wait).lsb
    return pack(words)


def _free(word: int, names: tuple[str, str]) -> str:
    return next((name for name in names if isa().header_field(name).get(word) == 0), "")
