# SPDX-License-Identifier: Apache-2.0
"""Vectors of VEC and DW, and of the copies that only they read."""

import numpy as np

from hetfab.driver.selftest.dense import store_pixels
from hetfab.driver.selftest.draft import Data, Draft
from hetfab.driver.selftest.tiles import (
    BEATS,
    BLOCK,
    MARGIN,
    Accumulators,
    activation_bytes,
    out_words,
    parameters,
    product,
    shift_of,
    store,
    sums,
    vector_fields,
)
from hetfab.overlay.isa.arithmetic import reciprocals
from hetfab.overlay.isa.codec import ReduceMode, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import gain_records, parameter_records, spread_record

_POST_LEFT = isa().size("post_left")
_UNIT = isa().size("fun_unit")
#: Lines and columns of pixels in res_ram and exp_ram.
_LINES, _COLUMNS = 3, 4
_SMALLEST_WIDTH = 8


def _source(draft: Draft) -> Accumulators:
    """The accumulators that the mode asks for."""
    if draft.flag("from_sum"):
        return sums(draft)
    return product(draft, _core(draft))


def _core(draft: Draft) -> int:
    return draft.flag("core", 0 if "gemm_d" in draft.geometry.engines else 1)


def _limits(draft: Draft) -> dict[str, int]:
    """Fields that say which results are allowed."""
    packed, signed = draft.flag("packed"), draft.flag("signed")
    return {"packed": packed, "signed": signed, "highest": (7 if packed else 127) * (2 - signed)}


def _shift(draft: Draft, found: Accumulators) -> int:
    """Sums of AGG are smaller than products."""
    distance = shift_of(draft, packed=bool(draft.flag("packed")))
    return distance if draft.data is Data.TIES else distance - 7 * found.from_sum


def _words_of(groups: int, *, packed: int) -> int:
    return -(-groups // 2) if packed else groups


def requantize(draft: Draft) -> None:
    """Bytes or nibbles of a core's products, or of sums of AGG."""
    if draft.flag("to_exp"):
        depthwise(draft)
        return
    found = _source(draft)
    parameters(draft, found.groups)
    words = _words_of(found.groups, packed=draft.flag("packed"))
    fields = vector_fields(found, words) | _limits(draft)
    draft.issue("requantize", **fields, from_sum=found.from_sum, shift=_shift(draft, found), to_exp=0)
    store(draft, "results", found.rows, words, "u1")


def _beside(draft: Draft, core: int, mode: ReduceMode) -> tuple[Accumulators, dict[str, int]]:
    """Products, sums of as many groups or more, and the fields that say where these and the parameters are."""
    found = product(draft, core, groups=1)
    groups = min(found.groups, draft.geometry.agg_groups, BEATS)
    added = sums(draft, rows=found.rows, groups=groups + 1, mode=mode)
    # Of wider rows of sums, the last groups.
    beside = {"sum": added.word + added.groups - groups, "sum_groups": added.groups - 1, "par": MARGIN}
    parameters(draft, groups, MARGIN)
    rows = min(found.rows, added.rows) if groups == found.groups else 1
    return Accumulators(core, 0, found.word, rows, groups), beside


def _both(draft: Draft) -> tuple[Accumulators, dict[str, int]]:
    """Products and sums in Q.8, and the fields of what adds them."""
    found, fields = _beside(draft, _core(draft), ReduceMode.SUM)
    return found, fields | {"with_acc": draft.flag("with_acc", 1), "shift": shift_of(draft, wide=True)}


def _joined(draft: Draft, core: int) -> tuple[Accumulators, dict[str, int]]:
    """Products and sums that weigh about as much: those in Q.8, or with ties plain ones."""
    return _beside(draft, core, ReduceMode.RAW if draft.data is Data.TIES else ReduceMode.SUM)


def _post_shift(draft: Draft) -> int:
    """Results in Q.8, to bytes or nibbles, or to few bits so that ties are met."""
    return _POST_LEFT + 8 + 2 + 4 * draft.flag("packed")


def combine(draft: Draft) -> None:
    """Bytes or nibbles of products and sums."""
    found, fields = _both(draft)
    words = _words_of(found.groups, packed=draft.flag("packed"))
    draft.issue("combine", **(vector_fields(found, words) | fields), **_limits(draft), post_shift=_post_shift(draft))
    store(draft, "results", found.rows, words, "u1")


def requantize_joined(draft: Draft) -> None:
    """Bytes or nibbles of sums of products and of edges."""
    found, fields = _joined(draft, _core(draft))
    words = _words_of(found.groups, packed=draft.flag("packed"))
    fields = vector_fields(found, words) | fields | _limits(draft)
    draft.issue("requantize_joined", **fields, shift=_shift(draft, found))
    store(draft, "results", found.rows, words, "u1")


def export_sums(draft: Draft) -> None:
    """Products and sums as they are."""
    found, fields = _both(draft)
    words = found.groups * draft.geometry.lanes // 2
    draft.issue("export_sums", **(vector_fields(found, words) | fields))
    store(draft, "sums", found.rows, words, "<i4")


def export_accumulators(draft: Draft) -> None:
    """Accumulators with their bias, row behind row."""
    found = _source(draft)
    parameters(draft, found.groups)
    words = found.groups * draft.geometry.lanes // 2
    draft.issue("export_accumulators", **vector_fields(found, words), from_sum=found.from_sum)
    store(draft, "accumulators", found.rows, words, "<i4")


def _table(draft: Draft, width: int) -> int:
    """Loads a table of a function behind the first unit; returns its unit."""
    words = max(_UNIT, (1 << width) // 8)
    unit = min(1, (draft.geometry.fun_words - words) // _UNIT)
    address = draft.put(Segment.CONSTANTS, draft.noise(8 * words))
    draft.issue("load_function", ram=unit * _UNIT, words=words, address=address)
    return unit


def load_function(draft: Draft) -> None:
    """The entries of a table."""
    _function(draft, mapped=1)


def requantize_function(draft: Draft) -> None:
    """Results of 16 bits, or the entries of a table at results."""
    _function(draft, mapped=draft.flag("mapped"))


def _function(draft: Draft, mapped: int) -> None:
    found = _source(draft)
    parameters(draft, found.groups)
    width = _SMALLEST_WIDTH if mapped else 12
    table = _table(draft, width) if mapped else 0
    words = found.groups * (1 if mapped else 2)
    distance = _shift(draft, found) - (0 if mapped or draft.data is Data.TIES else 4)
    draft.issue(
        "requantize_function", **vector_fields(found, words), signed=draft.flag("signed"), mapped=mapped,
        from_sum=found.from_sum, width=width - 1, table=table, shift=distance,
    )  # fmt: skip
    store(draft, "results", found.rows, words, "u1" if mapped else "<u2")


def combine_function(draft: Draft) -> None:
    """The same of products and sums."""
    mapped = draft.flag("mapped")
    found, fields = _both(draft)
    width = _SMALLEST_WIDTH if mapped else 12
    table = _table(draft, width) if mapped else 0
    words = found.groups * (1 if mapped else 2)
    draft.issue(
        "combine_function", **(vector_fields(found, words) | fields), signed=draft.flag("signed"), mapped=mapped,
        width=width - 1, table=table, post_shift=_post_shift(draft) - (0 if mapped else 4),
    )  # fmt: skip
    store(draft, "results", found.rows, words, "u1" if mapped else "<u2")


def requantize_joined_function(draft: Draft) -> None:
    """Results of 16 bits, or the entries of a table, of sums of products, of GEMM-L where it is there, and of edges."""
    mapped = draft.flag("mapped")
    core = draft.flag("core", 1 if "gemm_l" in draft.geometry.engines else 0)
    found, fields = _joined(draft, core)
    width = _SMALLEST_WIDTH if mapped else 12
    table = _table(draft, width) if mapped else 0
    words = found.groups * (1 if mapped else 2)
    draft.issue(
        "requantize_joined_function", **(vector_fields(found, words) | fields), signed=draft.flag("signed"),
        mapped=mapped, width=width - 1, table=table, shift=_shift(draft, found) - (0 if mapped else 4),
    )  # fmt: skip
    store(draft, "results", found.rows, words, "u1" if mapped else "<u2")


def normalize(draft: Draft) -> None:
    """Rows normalized over their channels."""
    found = _source(draft)
    groups, lanes = found.groups, draft.geometry.lanes
    rows = max(1, min(found.rows, draft.geometry.norm_words // groups))
    channels = groups * lanes
    random = draft.random
    bias, multiplier = random.integers(-900, 900, channels), random.integers(900, 2000, channels)
    content = [
        parameter_records(bias, multiplier, lanes),
        gain_records(random.integers(-9000, 9000, channels), random.integers(-90_000, 90_000, channels), lanes),
        spread_record(3, channels, lanes),
    ]
    draft.issue(
        "load_parameters", ram=0, words=2 * groups + 1, address=draft.put(Segment.CONSTANTS, np.concatenate(content))
    )
    fields = vector_fields(Accumulators(found.core, found.from_sum, found.word, rows, groups), groups)
    draft.issue(
        "normalize", **fields, from_sum=found.from_sum, signed=draft.flag("signed"),
        highest=127 * (2 - draft.flag("signed")), shift=_shift(draft, found) - 6, post_shift=19,
    )  # fmt: skip
    store(draft, "results", rows, groups, "u1")


def _pixels(draft: Draft, words: int, *, banks: int = _LINES, columns: int = _COLUMNS) -> dict[str, int]:
    """Loads an image into res_ram, and says where its pixels lie; they are ``words`` words each.

    Returns:
        The fields of configure_pixels.
    """
    pixel, line = words, columns * words + 1
    stride = -(-(line * BEATS) // BLOCK) + 1
    content = activation_bytes(draft, (banks, stride * BLOCK), packed=bool(draft.flag("packed")))
    draft.issue(
        "load_residual", ram=0, rows=banks, columns=0, run_stride=0, run_beats=line, stride_blocks=stride,
        address=draft.put(Segment.FEATURES, content),
    )  # fmt: skip
    return {
        "banks": banks - 1, "packed": 0, "signed": 1, "res_line_words": line, "res_pixel_words": pixel,
        "exp_line_words": 0, "exp_pixel_words": 0,
    }  # fmt: skip


def load_residual(draft: Draft) -> None:
    """Runs that lie apart, copied by pooling windows of one tap."""
    rows, columns, beats = 2, 3, 2
    stride = columns * 5 // BEATS + 2
    content = draft.noise(rows * stride * BLOCK)
    draft.issue(
        "load_residual", ram=3, rows=rows, columns=columns - 1, run_stride=5, run_beats=beats, stride_blocks=stride,
        address=draft.put(Segment.FEATURES, content),
    )  # fmt: skip
    places = {"packed": 0, "signed": 1, "exp_line_words": 0, "exp_pixel_words": 0}
    draft.issue("configure_pixels", banks=rows - 1, res_line_words=columns * beats, res_pixel_words=beats, **places)
    _configure_pool(draft, lines=1, columns=1)
    draft.issue("pool_max", res=3, out=0, rows=rows * columns, row_blocks=1, row_words=beats, to_exp=0)
    store(draft, "pixels", rows * columns, beats, "u1")


def configure_pixels(draft: Draft) -> None:
    """Bytes or nibbles, signed or not, as pool_average takes them."""
    groups = 2
    packed = draft.flag("packed")
    places = _pixels(draft, _words_of(groups, packed=packed))
    _configure_pool(draft, lines=1, columns=1)
    draft.issue("configure_pixels", **(places | {"packed": packed, "signed": draft.flag("signed")}))
    _average(draft, groups, _LINES * _COLUMNS, wide=1, limits={"packed": 0, "signed": 1, "highest": 127})


def _configure_pool(draft: Draft, *, lines: int, columns: int, line_words: int = 0, column_words: int = 0) -> None:
    reciprocal, exponent = (int(value[0]) for value in reciprocals(np.array([lines * columns])))
    draft.issue(
        "configure_pool", lines=lines, columns=columns, line_words=line_words, column_words=column_words,
        reciprocal=reciprocal, exponent=exponent,
    )  # fmt: skip


def _windows(draft: Draft, words: int) -> int:
    """Windows of two by two taps that overlap; returns their number."""
    places = _pixels(draft, words)
    places["banks"] = _LINES - 2
    draft.issue("configure_pixels", **places)
    _configure_pool(draft, lines=2, columns=2, line_words=places["res_line_words"], column_words=words)
    return (_LINES - 1) * (_COLUMNS - 1)


def configure_pool(draft: Draft) -> None:
    """Windows of three divisors."""
    places = _pixels(draft, 1)
    places["banks"] = 0
    draft.issue("configure_pixels", **places)
    _configure_pool(draft, lines=3, columns=2, line_words=places["res_line_words"], column_words=1)
    _average(draft, 1, _COLUMNS - 1, wide=1, limits={"packed": 0, "signed": 1, "highest": 127})


def pool_max(draft: Draft) -> None:
    """The largest of windows that overlap."""
    if draft.flag("to_exp"):
        depthwise(draft)
        return
    rows = _windows(draft, 2)
    draft.issue("pool_max", res=0, out=0, rows=rows, row_blocks=1, row_words=2, to_exp=0)
    store(draft, "results", rows, 2, "i1")


def pool_average(draft: Draft) -> None:
    """Means of windows that overlap."""
    if draft.flag("to_exp"):
        depthwise(draft)
        return
    rows = _windows(draft, 2)
    _average(draft, 2, rows, wide=draft.flag("wide"), limits=_limits(draft))


def _average(draft: Draft, groups: int, rows: int, wide: int, limits: dict[str, int]) -> None:
    words = groups * draft.geometry.lanes // 2 if wide else _words_of(groups, packed=limits["packed"])
    draft.issue(
        "pool_average", **limits, res=0, out=0, rows=rows, groups=groups, row_blocks=out_words(words) // BEATS,
        row_words=words, post_shift=_POST_LEFT + 8 + 4 * limits["packed"], to_exp=0, wide=wide,
    )  # fmt: skip
    store(draft, "results", rows, words, "<i4" if wide else "u1")


def join(draft: Draft) -> None:
    """Products and stored pixels."""
    if draft.flag("to_exp"):
        depthwise(draft)
        return
    found = product(draft, _core(draft), rows=4, groups=1)
    banks = 2 if found.rows % 2 == 0 else 1
    places = _pixels(draft, found.groups, banks=banks, columns=found.rows // banks)
    draft.issue("configure_pixels", **places)
    parameters(draft, found.groups)
    wide = draft.flag("wide")
    words = found.groups * draft.geometry.lanes // 2 if wide else _words_of(found.groups, packed=draft.flag("packed"))
    draft.issue(
        "join", **vector_fields(found, words), **_limits(draft), res=0, shift=shift_of(draft, wide=True),
        post_shift=_POST_LEFT + 8 + 4 * draft.flag("packed"), to_exp=0, wide=wide,
    )  # fmt: skip
    store(draft, "results", found.rows, words, "<i4" if wide else "u1")


def load_depthwise(draft: Draft) -> None:
    """Weights, bias and multipliers of DW in two copies."""
    depthwise(draft)


def store_middle(draft: Draft) -> None:
    """Pixels of lines, joined or apart."""
    depthwise(draft)


def depthwise(draft: Draft) -> None:
    """A depthwise convolution, of pixels from the operation that the mode asks for; its windows reach beyond them."""
    geometry = draft.geometry
    packed, out_packed = draft.flag("packed"), draft.flag("out_packed")
    # An operation of VEC under test writes bytes, for which DW has plain windows.
    groups = 2
    words = _words_of(groups, packed=packed)
    lines, columns = 3, 3
    line_words = columns * words + 1
    _pixels_to_exp(draft, groups, lines, columns, {"exp_line_words": line_words, "exp_pixel_words": words})
    channels = groups * geometry.lanes
    own = geometry.lanes * (1 + packed)
    taps = draft.random.integers(-100, 100, (channels // own, 9 * 8)).astype(np.uint8)
    bias, multiplier = draft.random.integers(-2000, 2000, channels), draft.random.integers(900, 2000, channels)
    records = parameter_records(bias, multiplier, own).reshape(channels // own, -1)
    content = np.concatenate([taps, records], axis=1).reshape(-1)
    half = content.size // 16
    address = draft.put(Segment.CONSTANTS, content)
    for first, end in ((half, content.size // 8), (0, half)):
        place = draft.put(Segment.CONSTANTS, content[8 * first : 8 * end]) if first else address
        draft.issue("load_depthwise", ram=first, words=end - first, address=place)
    stride = draft.flag("stride")
    out_columns = (columns + 2 - 3) // (stride + 1) + 1
    # Of a stride of 2 the lines are windows at every other one.
    out_lines = (lines + 2 - 3) // (stride + 1) + 1
    bottom = (out_lines - 1) * (stride + 1) + 3 - 1 - lines
    draft.issue(
        "depthwise", top=1, bottom=bottom, left=1, right=1, stride=stride, packed=packed,
        unsigned=draft.flag("unsigned"), signed=draft.flag("signed", 1), out_packed=out_packed,
        highest=7 if out_packed else 127, shift=16 if packed else 17, lines=out_lines, exp=0, mid=0, par=0,
        groups=groups, columns=columns, line_words=line_words,
    )  # fmt: skip
    store_pixels(draft, "store_middle", out_lines, out_columns, _words_of(groups, packed=out_packed))


def _pixels_to_exp(draft: Draft, groups: int, lines: int, columns: int, places: dict[str, int]) -> None:
    """Fills exp_ram with the pixels that an operation of VEC makes."""
    packed = draft.flag("packed")
    words = places["exp_pixel_words"]
    ends = {"to_exp": 1, "out": 0, "row_blocks": 0, "row_words": words}
    limits = {"signed": 1, "packed": packed, "highest": 7 if packed else 127}
    operation = draft.operation if draft.operation in ("requantize", "join", "pool_average") else "pool_max"
    if operation in ("requantize", "join"):
        found = product(draft, _core(draft), rows=lines * columns, groups=1)
        groups = min(groups, found.groups)
        parameters(draft, groups)
        stored = _pixels(draft, groups, banks=lines, columns=columns) if operation == "join" else {}
        stored = stored or {"banks": lines - 1, "packed": 0, "signed": 1, "res_line_words": 0, "res_pixel_words": 0}
        draft.issue("configure_pixels", **(stored | places))
        rows = found.rows // lines * lines
        fields = vector_fields(Accumulators(found.core, 0, found.word, rows, groups), words) | ends | limits
        if operation == "join":
            fields |= {"res": 0, "shift": shift_of(draft, wide=True), "post_shift": _POST_LEFT + 8, "wide": 0}
        else:
            fields |= {"from_sum": 0, "shift": shift_of(draft, packed=bool(packed))}
        draft.issue(operation, **fields)
        return
    stored = _pixels(draft, words, banks=lines, columns=columns)
    draft.issue("configure_pixels", **(stored | places))
    _configure_pool(draft, lines=1, columns=1)
    rows = lines * columns
    if operation == "pool_average":
        draft.issue(operation, **ends, **limits, res=0, rows=rows, groups=groups, post_shift=_POST_LEFT + 8, wide=0)
    else:
        draft.issue(operation, **ends, res=0, rows=rows)


MAKERS = (
    load_function,
    load_residual,
    load_depthwise,
    store_middle,
    requantize,
    combine,
    export_sums,
    export_accumulators,
    requantize_function,
    combine_function,
    requantize_joined,
    requantize_joined_function,
    normalize,
    configure_pixels,
    configure_pool,
    join,
    pool_max,
    pool_average,
    depthwise,
)
