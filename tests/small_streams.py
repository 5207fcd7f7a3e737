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
#: Those that have instructions here; each pair of them has a semaphore.
ENGINES = [Engine.LOAD, Engine.STORE, Engine.GEMM_D, Engine.GEMM_L, Engine.VEC, Engine.AGG]
_SMALL = st.integers(0, 3)


def _address(draw: st.DrawFn) -> int:
    segment = draw(st.sampled_from([Segment.FEATURES, Segment.ACTIVATIONS, Segment.ACTIVATIONS]))
    return program_address(segment, 64 * draw(st.integers(0, 5)))


def _rows(draw: st.DrawFn) -> dict[str, int]:
    return {
        "rows": draw(st.integers(0, 5)),
        "row_blocks": draw(st.integers(1, 2)),
        "stride_blocks": draw(st.integers(0, 4)),
        "address": _address(draw),
    }


def _words(draw: st.DrawFn) -> dict[str, int]:
    return {"ram": draw(_SMALL), "words": draw(st.integers(0, 5)), "address": _address(draw)}


def _vector(draw: st.DrawFn) -> dict[str, int]:
    """Fields that all operations of VEC have; two rows of three words have a gap between them."""
    return {
        "core": draw(st.integers(0, 1)),
        "acc": 4 * draw(_SMALL),
        "out": 8 * draw(_SMALL),
        "par": draw(_SMALL),
        "rows": draw(st.integers(0, 4)),
        "groups": 1,
        "row_blocks": 1,
        "row_words": draw(st.sampled_from([3, 8])),
    }


def _strips(draw: st.DrawFn) -> dict[str, int]:
    """Fields that the operations on strips share; lines overlap, follow each other or have a gap between them."""
    flag = st.integers(0, 1)
    return {
        "accumulate": draw(flag),
        "unsigned": 0,
        "acc": 4 * draw(_SMALL),
        "banks": draw(st.integers(1, 3)),
        "columns": draw(st.integers(0, 2)),
        "lines": draw(st.integers(1, 3)),
        "line_words": draw(st.sampled_from([0, 1, 4, 6])),
        "step_words": draw(st.integers(0, 2)),
        "col_groups": draw(st.integers(0, 2)),
    }


@st.composite
def instructions(draw: st.DrawFn) -> int:
    """One instruction of any engine, in the first words of the memories of the small design."""
    flag = st.integers(0, 1)
    match draw(st.integers(0, 16)):
        case 0:
            return codec.load_activations(
                **_rows(draw), ram_d=8 * draw(_SMALL), ram_l=4 * draw(_SMALL), to_d=draw(flag), to_l=draw(flag),
                packed=draw(flag),
            )  # fmt: skip
        case 1:
            return codec.load_weights(**_words(draw))
        case 2:
            return codec.load_planes(**_words(draw))
        case 3:
            return codec.load_parameters(**_words(draw))
        case 4:
            # Rows of 3 beats leave a gap in out_ram, and begin anywhere in a block of DRAM.
            return codec.store_rows(
                ram=8 * draw(_SMALL), rows=draw(st.integers(0, 3)), row_beats=draw(st.sampled_from([0, 3, 8, 11, 16])),
                stride_blocks=draw(st.integers(0, 4)), address=_address(draw) + draw(st.sampled_from([0, 0, 24])),
            )  # fmt: skip
        case 5:
            return codec.matmul(
                act=4 * draw(_SMALL), wgt=2 * draw(_SMALL), accumulate=draw(flag), unsigned=0, packed=0,
                acc=4 * draw(_SMALL), rows=draw(st.integers(0, 8)), row_beats=draw(st.integers(1, 4)),
                col_groups=draw(st.integers(0, 2)),
            )  # fmt: skip
        case 6:
            return codec.matmul_planes(
                act=2 * draw(_SMALL), wgt=draw(_SMALL), accumulate=draw(flag), unsigned=0, bipolar=0,
                acc=4 * draw(_SMALL), rows=draw(st.integers(0, 7)), row_words=draw(st.integers(1, 2)),
                slices=draw(st.integers(1, 2)), planes=draw(st.integers(1, 3)), col_groups=draw(st.integers(0, 2)),
            )  # fmt: skip
        case 7:
            return codec.requantize(
                **_vector(draw), from_sum=draw(flag), signed=1, highest=127, packed=draw(flag), shift=0, to_exp=0
            )
        case 8:
            return codec.combine(
                **_vector(draw), sum=4 * draw(_SMALL), sum_groups=draw(st.integers(0, 2)), signed=1,
                highest=127, packed=0, with_acc=draw(flag), shift=0, post_shift=0,
            )  # fmt: skip
        case 9:
            return codec.reduce(
                source=0, merge=0, spill=0, weighted=0, from_fifo=0,
                slot=draw(st.integers(0, 1)), rows=draw(st.integers(0, 4)), mode=0, unsigned=0,
                accumulate=draw(flag), groups=draw(flag), destination=0, sum=4 * draw(_SMALL),
            )  # fmt: skip
        case 10:
            # Lines of 4 beats for both arrays, by the contexts at the beginning; zeros on any side.
            banks, top, left = draw(st.integers(1, 2)), draw(flag), draw(st.integers(0, 4))
            return codec.load_lines(
                ram=4 * draw(_SMALL), lines=draw(st.integers(0, banks + 1 - top)), first_bank=draw(flag), banks=banks,
                top=top, slot=draw(flag), left=left, beats=draw(st.integers(0, 4 - left)), address=_address(draw),
            )  # fmt: skip
        case 11:
            return codec.matmul_lines(
                **_strips(draw), act=4 * draw(_SMALL), wgt=2 * draw(_SMALL), packed=0, run=draw(st.integers(1, 2))
            )
        case 12:
            return codec.matmul_planes_lines(
                **_strips(draw), act=2 * draw(_SMALL), wgt=draw(_SMALL), bipolar=0, run=1,
                slices=draw(st.integers(1, 2)), planes=draw(st.integers(1, 3)),
            )  # fmt: skip
        case 13:
            # Pixels with gaps between them, or joined.
            columns, beats, joined = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(flag)
            return codec.store_runs(
                ram=8 * draw(_SMALL), banks=draw(st.integers(0, 3)), columns=columns - 1, row_beats=beats,
                ram_banks=draw(st.integers(0, 4)), joined=joined, stride_blocks=draw(st.integers(0, 4)),
                pixel_stride=columns * beats if joined else draw(st.integers(0, 9)), address=_address(draw),
            )  # fmt: skip
        case 14:
            return codec.configure_features(
                first_block=0, slot_bits=0,
                slot=draw(st.integers(0, 1)), row_blocks=draw(st.integers(1, 3)), count=draw(st.integers(0, 4)),
                address=_address(draw),
            )  # fmt: skip
        case 15:
            return codec.requantize_joined(
                **_vector(draw), sum=4 * draw(_SMALL), sum_groups=draw(st.integers(0, 2)), signed=1, highest=127,
                packed=draw(flag), shift=0,
            )  # fmt: skip
        case _:
            return codec.sync(engine=draw(st.sampled_from(ENGINES)))


def _contexts() -> list[int]:
    """Contexts of LOAD, one for each core, and of AGG without edges: every destination has the degree zero."""
    graph = program_address(Segment.GRAPH, 0)
    shape = {"packed": 0, "kernel_lines": 2, "line_stride": 1, "line_beats": 4, "stride_blocks": 1}
    lines = [codec.configure_lines(slot=core, core=core, **shape) for core in (0, 1)]
    return lines + [
        word
        for slot in (0, 1)
        for word in (
            codec.configure_features(
                first_block=0,
                slot_bits=0,
                slot=slot,
                row_blocks=1,
                count=1,
                address=program_address(Segment.ACTIVATIONS, 0),
            ),
            codec.configure_destinations(slot=slot, parts=0, count=4, address=graph),
            codec.configure_ids(slot=slot, edges=0, id_bytes=2, address=graph),
            codec.configure_spilled(slot=slot, row_blocks=1, count=4, address=program_address(Segment.SPILL, 0)),
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
        semaphore = 1 + source * (len(ENGINES) - 1) + target - (target > source)
        signal = _free(words[first], ("signal0", "signal1"))
        wait = _free(words[second], ("wait0", "wait1"))
        if signal and wait:
            words[first] |= semaphore << isa().header_field(signal).lsb
            words[second] |= semaphore << isa().header_field(wait).lsb
    return pack(words)


def _free(word: int, names: tuple[str, str]) -> str:
    return next((name for name in names if isa().header_field(name).get(word) == 0), "")
