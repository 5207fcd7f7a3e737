# SPDX-License-Identifier: Apache-2.0
"""Vectors of LOAD, GEMM-D, GEMM-L and STORE."""

from hetfab.driver.selftest.draft import Data, Draft
from hetfab.driver.selftest.tiles import (
    BEATS,
    BLOCK,
    Accumulators,
    activation_bytes,
    activations,
    bare_parameters,
    export,
    out_words,
    planes,
    product,
    rows_within,
    store,
    vector_fields,
    weights,
)
from hetfab.overlay.isa.codec import Segment

#: Strips of the operations on lines: output pixels of a strip less one, lines, and the words between them.
_COLUMNS, _LINES = 2, 2


def load_activations(draft: Draft) -> None:
    """One copy for both cores, or for one; rows of two blocks."""
    geometry, packed = draft.geometry, bool(draft.flag("packed"))
    to_d, to_l = draft.flag("to_d", 1), draft.flag("to_l", 1)
    cores = [core for core, name in ((0, "gemm_d"), (1, "gemm_l")) if name in geometry.engines]
    rows = min(rows_within(draft, core, 1, 16, 40) for core in cores)
    for core in cores:
        # What is not written keeps what it held.
        activations(draft, core, rows, 2, packed=packed)
    content = activation_bytes(draft, (rows, 3 * BLOCK), packed=packed)
    draft.issue(
        "load_activations", ram_d=0, ram_l=0, rows=rows, to_d=to_d, to_l=to_l, packed=int(packed), row_blocks=2,
        stride_blocks=3, address=draft.put(Segment.FEATURES, content),
    )  # fmt: skip
    for core in cores:
        export(draft, _multiplied(draft, core, rows, 2, packed=packed), f"products of {('gemm_d', 'gemm_l')[core]}")


def _multiplied(draft: Draft, core: int, rows: int, blocks: int, *, packed: bool) -> Accumulators:
    """Products of a tile at the start of a core's RAM, with one group of columns."""
    if core:
        words = blocks * (4 if packed else 2)
        planes(draft, 1, words, 2, bipolar=False)
        draft.issue(
            "matmul_planes", act=0, wgt=0, accumulate=0, unsigned=0, slices=1 if packed else 2, bipolar=0, acc=0,
            rows=rows, row_words=words, planes=2, col_groups=1,
        )  # fmt: skip
        return Accumulators(1, 0, 0, rows, draft.geometry.gemm_l_cols // draft.geometry.lanes)
    weights(draft, 1, blocks * BEATS, packed=packed)
    draft.issue(
        "matmul", act=0, wgt=0, accumulate=0, unsigned=0, packed=int(packed), acc=0, rows=rows,
        row_beats=blocks * BEATS, col_groups=1,
    )  # fmt: skip
    return Accumulators(0, 0, 0, rows, draft.geometry.gemm_d_cols // draft.geometry.lanes)


def load_weights(draft: Draft) -> None:
    """Weights in two copies to their places, the second one first, over others."""
    rows = rows_within(draft, 0, 2, BEATS, 9)
    activations(draft, 0, rows, 1, packed=False)
    weights(draft, 2, BEATS, packed=False)
    half = 2 * BEATS
    weights(draft, 1, BEATS, packed=False, word=half)
    weights(draft, 1, BEATS, packed=False)
    draft.issue(
        "matmul", act=0, wgt=0, accumulate=0, unsigned=0, packed=0, acc=0, rows=rows, row_beats=BEATS, col_groups=2
    )
    export(draft, Accumulators(0, 0, 0, rows, 2 * draft.geometry.gemm_d_cols // draft.geometry.lanes))


def load_planes(draft: Draft) -> None:
    """The same for planes."""
    rows = rows_within(draft, 1, 2, BEATS, 9)
    activations(draft, 1, rows, 1, packed=False)
    planes(draft, 2, 2, 3, bipolar=False)
    planes(draft, 1, 2, 3, bipolar=False, word=6)
    planes(draft, 1, 2, 3, bipolar=False)
    draft.issue(
        "matmul_planes", act=0, wgt=0, accumulate=0, unsigned=0, slices=2, bipolar=0, acc=0, rows=rows, row_words=2,
        planes=3, col_groups=2,
    )  # fmt: skip
    export(draft, Accumulators(1, 0, 0, rows, 2 * draft.geometry.gemm_l_cols // draft.geometry.lanes))


def load_lines(draft: Draft) -> None:
    """Lines with zeros on all sides, to some banks of one core."""
    geometry, core, packed = draft.geometry, draft.flag("core"), bool(draft.flag("packed"))
    array = geometry.gemm_l_rows if core else geometry.gemm_d_rows
    banks, kernel = min(3, array), 2
    total, beats = (banks - 1) + kernel, 3 * BEATS // 2
    draft.issue(
        "configure_lines", slot=5, core=core, packed=int(packed), kernel_lines=kernel, line_stride=1, line_beats=beats,
        stride_blocks=2,
    )  # fmt: skip
    _fill(draft, core, packed=packed)
    content = activation_bytes(draft, (total, 2 * BLOCK), packed=packed)
    first = array - banks
    draft.issue(
        "load_lines", ram=0, lines=total - 2, first_bank=first, banks=banks, top=1, slot=5, left=2, beats=beats - 4,
        address=draft.put(Segment.FEATURES, content),
    )  # fmt: skip
    _read_banks(draft, core, kernel, beats, packed=packed)


def configure_lines(draft: Draft) -> None:
    """Another context than the one configured last is used."""
    _two_contexts(draft, "configure_lines")
    load_lines(draft)


def configure_windows(draft: Draft) -> None:
    """Another context than the one configured last is used."""
    _two_contexts(draft, "configure_windows")
    load_windows(draft)


def _two_contexts(draft: Draft, operation: str) -> None:
    own = {"packed": 0, "line_beats": 4} if operation == "configure_lines" else {"run_beats": 4, "step_bytes": 3}
    for slot in (5, 6):
        draft.issue(operation, slot=slot, core=0, kernel_lines=3, line_stride=2, stride_blocks=5, **own)


def load_windows(draft: Draft) -> None:
    """Windows of three pixels, cut at odd bytes."""
    geometry, core = draft.geometry, draft.flag("core")
    array = geometry.gemm_l_rows if core else geometry.gemm_d_rows
    banks, kernel, run = min(2, array), 2, 4 if core else 2
    beats = min(geometry.gather_beats, BEATS)
    columns = 2 if beats * 8 >= 8 * run + 8 else 0
    draft.issue(
        "configure_windows", slot=5, core=core, kernel_lines=kernel, line_stride=1, run_beats=run, step_bytes=3,
        stride_blocks=2,
    )  # fmt: skip
    _fill(draft, core, packed=False)
    lines = banks - 1 + kernel
    content = activation_bytes(draft, (lines, 2 * BLOCK), packed=False)
    draft.issue(
        "load_windows", ram=0, lines=lines, first_bank=0, banks=banks, offset=1 if columns else 0, slot=5, beats=beats,
        columns=columns, address=draft.put(Segment.FEATURES, content),
    )  # fmt: skip
    _read_banks(draft, core, kernel, run * (columns + 1), packed=False)


def _fill(draft: Draft, core: int, *, packed: bool) -> None:
    """Fills the words of all banks that are read below."""
    array = draft.geometry.gemm_l_rows if core else draft.geometry.gemm_d_rows
    activations(draft, core, array, 4, packed=packed)


def _read_banks(draft: Draft, core: int, lines: int, beats: int, *, packed: bool) -> None:
    """Products of lines of so many beats, one behind the other in each bank."""
    if core:
        words = beats // (2 if packed else 4)
        rows = _strips_l(draft, lines=lines, run=words, line_words=words * (1 if packed else 2), columns=0,
                         slices=1 if packed else 2, planes_=3)  # fmt: skip
        export(draft, rows)
        return
    export(draft, _strips_d(draft, lines=lines, run=beats, line_words=beats, columns=0, packed=packed))


def load_parameters(draft: Draft) -> None:
    """Parameters in two copies, the second one first; results are sums with their bias."""
    core = 0 if "gemm_d" in draft.geometry.engines else 1
    found = product(draft, core)
    bare_parameters(draft, found.groups)
    channels = found.groups * draft.geometry.lanes
    half = channels // 2 if channels > draft.geometry.lanes else channels
    records = draft.noise(8 * channels).reshape(channels, 8)
    for first, end in ((half, channels), (0, half)):
        if first < end:
            draft.issue(
                "load_parameters", ram=first // draft.geometry.lanes, words=(end - first) // draft.geometry.lanes,
                address=draft.put(Segment.CONSTANTS, records[first:end]),
            )  # fmt: skip
    words = channels // 2
    draft.issue("export_accumulators", **vector_fields(found, words), from_sum=0)
    store(draft, "sums with bias", found.rows, words, "<i4")


def matmul(draft: Draft) -> None:
    """Products of a tile of two blocks of rows, at places that are not 0."""
    packed, groups = bool(draft.flag("packed")), 2
    rows, act, wgt, acc = rows_within(draft, 0, groups, BEATS, 200), 3, 5, 2
    activations(draft, 0, rows, 1, packed=packed, word=act)
    weights(draft, groups, BEATS, packed=packed, word=wgt)
    fields = {"unsigned": draft.flag("unsigned"), "packed": int(packed), "rows": rows, "row_beats": BEATS}
    for accumulate in [0, 1] if draft.flag("accumulate") else [0]:
        draft.issue("matmul", **fields, act=act, wgt=wgt, acc=acc, col_groups=groups, accumulate=accumulate)
    export(draft, Accumulators(0, 0, acc, rows, groups * draft.geometry.gemm_d_cols // draft.geometry.lanes))


def matmul_lines(draft: Draft) -> None:
    """Strips of some banks whose lines overlap."""
    packed = bool(draft.flag("packed"))
    activations(draft, 0, draft.geometry.gemm_d_rows, 2, packed=packed)
    export(draft, _strips_d(draft, lines=_LINES, run=3, line_words=BEATS, columns=_COLUMNS, packed=packed))


def _strips_d(draft: Draft, *, lines: int, run: int, line_words: int, columns: int, packed: bool) -> Accumulators:
    geometry, groups, acc = draft.geometry, 1, 2
    banks = min(geometry.gemm_d_rows, 4 if columns else geometry.gemm_d_rows)
    weights(draft, groups, lines * run, packed=packed)
    for accumulate in [0, 1] if draft.flag("accumulate") else [0]:
        draft.issue(
            "matmul_lines", act=0, wgt=0, accumulate=accumulate, unsigned=draft.flag("unsigned"), packed=int(packed),
            lines=lines, acc=acc, banks=banks, columns=columns, line_words=line_words, run=run, step_words=2,
            col_groups=groups,
        )  # fmt: skip
    return Accumulators(0, 0, acc, banks * (columns + 1), groups * geometry.gemm_d_cols // geometry.lanes)


def matmul_planes(draft: Draft) -> None:
    """Products of a tile of two blocks of rows, of all numbers of planes and slices."""
    bipolar, slices = bool(draft.flag("bipolar")), draft.flag("slices", 2)
    count = 1 if bipolar else draft.flag("planes", 3)
    groups, act, wgt, acc = 2, 2, 5, 2
    rows, words = rows_within(draft, 1, groups, 4, 200), 4 // slices
    activations(draft, 1, rows, 1, packed=slices == 1, word=act)
    planes(draft, groups, words, count, bipolar=bipolar, word=wgt)
    fields = {"unsigned": draft.flag("unsigned"), "slices": slices, "bipolar": int(bipolar), "rows": rows}
    for accumulate in [0, 1] if draft.flag("accumulate") else [0]:
        draft.issue(
            "matmul_planes", **fields, act=act, wgt=wgt, acc=acc, row_words=words, planes=count, col_groups=groups,
            accumulate=accumulate,
        )  # fmt: skip
    export(draft, Accumulators(1, 0, acc, rows, groups * draft.geometry.gemm_l_cols // draft.geometry.lanes))


def matmul_planes_lines(draft: Draft) -> None:
    """Strips of some banks whose lines overlap."""
    slices = draft.flag("slices", 2)
    activations(draft, 1, draft.geometry.gemm_l_rows, 3, packed=slices == 1)
    export(draft, _strips_l(draft, lines=_LINES, run=2, line_words=4, columns=_COLUMNS, slices=slices,
                            planes_=draft.flag("planes", 3)))  # fmt: skip


def _strips_l(
    draft: Draft, *, lines: int, run: int, line_words: int, columns: int, slices: int, planes_: int
) -> Accumulators:
    geometry, groups, acc, bipolar = draft.geometry, 1, 2, bool(draft.flag("bipolar"))
    banks = min(geometry.gemm_l_rows, 4 if columns else geometry.gemm_l_rows)
    count = 1 if bipolar else planes_
    planes(draft, groups, lines * run, count, bipolar=bipolar)
    for accumulate in [0, 1] if draft.flag("accumulate") else [0]:
        draft.issue(
            "matmul_planes_lines", act=0, wgt=0, accumulate=accumulate, unsigned=draft.flag("unsigned"), slices=slices,
            bipolar=int(bipolar), planes=count, acc=acc, banks=banks, columns=columns, lines=lines,
            line_words=line_words, run=run, step_words=slices, col_groups=groups,
        )  # fmt: skip
    return Accumulators(1, 0, acc, banks * (columns + 1), groups * geometry.gemm_l_cols // geometry.lanes)


def store_rows(draft: Draft) -> None:
    """Rows of an odd number of beats, from rows that are not the first ones; with data flat and longer than a burst."""
    found = product(draft, 0 if "gemm_d" in draft.geometry.engines else 1, groups=1 + (draft.data is Data.ANY))
    words = found.groups * draft.geometry.lanes // 2
    bare_parameters(draft, found.groups)
    draft.issue("export_accumulators", **vector_fields(found, words), from_sum=0)
    first, beats = min(1, found.rows - 1), words - 1
    stride = out_words(words) // BEATS + 2
    address = draft.room("rows", Segment.OUTPUT, (found.rows - first, beats * 2), "<i4", stride * BLOCK)
    draft.issue(
        "store_rows", ram=first * out_words(words), rows=found.rows - first, row_beats=beats, stride_blocks=stride,
        address=address,
    )  # fmt: skip


def store_runs(draft: Draft) -> None:
    """Pixels of strips that lie one behind the other in out_ram, to rows of an image."""
    lanes, banks, columns = draft.geometry.lanes, 2, 2
    found = product(draft, 0 if "gemm_d" in draft.geometry.engines else 1, rows=banks * columns, groups=1)
    beats = found.groups * lanes // 2
    bare_parameters(draft, found.groups)
    fields = vector_fields(found, beats) | {"row_blocks": 0}
    draft.issue("export_accumulators", **fields, from_sum=0)
    store_pixels(draft, "store_runs", banks, columns, beats, ram_banks=banks)


def store_pixels(draft: Draft, operation: str, lines: int, columns: int, beats: int, **fields: int) -> None:
    """Pixels to lines of an image, joined or apart."""
    joined = draft.flag("joined")
    distance = columns * beats if joined else beats + 3
    length = distance if joined else columns * distance
    stride = -(-length // BEATS) + 1
    address = draft.room("pixels", Segment.OUTPUT, (lines, length * 8), "u1", stride * BLOCK)
    draft.issue(
        operation, ram=0, columns=columns - 1, row_beats=beats, stride_blocks=stride, joined=joined,
        pixel_stride=distance, address=address, **{"banks" if operation == "store_runs" else "lines": lines}, **fields,
    )  # fmt: skip


MAKERS = (
    load_activations,
    load_weights,
    load_planes,
    load_parameters,
    configure_lines,
    configure_windows,
    load_lines,
    load_windows,
    store_rows,
    store_runs,
    matmul,
    matmul_lines,
    matmul_planes,
    matmul_planes_lines,
)
