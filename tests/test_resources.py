# SPDX-License-Identifier: Apache-2.0
"""Resource functions: they grow with every parameter, are never negative, and follow the shapes of block RAM."""

import math
import re
from dataclasses import astuple, fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.overlay.blockdesign.build import MASTERS
from hetfab.overlay.board import board_names, read_board
from hetfab.overlay.costs.area import area_constants
from hetfab.overlay.costs.elements import Form
from hetfab.overlay.costs.resources import (
    READ_AND_WRITTEN,
    WRITTEN,
    block_rams,
    check_fits,
    crowded,
    design_resources,
    lut_ram,
    memory_port_resources,
    resource_rows,
    total,
)
from hetfab.overlay.design import Geometry, default_design
from hetfab.overlay.errors import DesignInvalidError, DesignTooLargeError
from hetfab.overlay.isa.spec import isa

DESIGNS = Path(__file__).parents[1] / "overlay" / "designs"
ROWS = st.sampled_from([2, 8, 16, 32])
COLUMNS = st.sampled_from([8, 16, 32])
KERNELS = Path(__file__).parents[1] / "hls" / "kernels"
FORMS = st.sampled_from(list(Form))
geometries = st.builds(
    Geometry,
    engines=st.just((*default_design().geometry.engines, "dw", "rst")),
    bus_bits=st.just(64),
    gemm_d_rows=ROWS,
    gemm_d_cols=COLUMNS,
    gemm_l_rows=ROWS,
    gemm_l_cols=COLUMNS,
    gemm_l_acc_bits=st.integers(24, 32),
    act_d_words=st.integers(1, 16384),
    act_l_words=st.integers(1, 8192),
    wgt_d_words=st.integers(1, 16384),
    wgt_l_words=st.integers(1, 16384),
    par_words=st.integers(1, 512),
    acc_d_words=st.integers(1, 4096),
    acc_l_words=st.integers(1, 4096),
    sum_words=st.integers(1, 4096),
    out_words=st.integers(1, 4096),
    res_words=st.integers(0, 4096),
    gather_beats=st.integers(0, 64).map(lambda pairs: 2 * pairs),
    fun_words=st.integers(0, 16).map(lambda units: 32 * units),
    norm_words=st.integers(0, 4096),
    exp_words=st.integers(0, 4096),
    dwp_words=st.integers(0, 1024),
    mid_words=st.integers(0, 4096),
    feature_words=st.integers(0, 4096).map(lambda blocks: 8 * blocks),
    agg_word_beats=st.sampled_from([1, 2, 4, 8]),
    agg_weights=st.integers(0, 1),
    agg_heads=st.sampled_from([0, 4, 8]),
    agg_contexts=st.integers(1, 16),
    agg_groups=st.integers(1, 63),
    sgb_columns=st.integers(1, 256).map(lambda words: 64 * words),
    sgb_ids=st.integers(1, 256).map(lambda words: 64 * words),
    rst_vertices=st.integers(1, 256).map(lambda words: 64 * words),
    rows_fifo_words=st.integers(16, 1 << 15),
    queue_depth=st.integers(1, 4096),
    engine_fifo_depth=st.integers(1, 4096),
)
GROWING = [
    "act_d_words", "act_l_words", "wgt_d_words", "wgt_l_words", "par_words", "acc_d_words", "acc_l_words", "sum_words",
    "out_words", "res_words", "gather_beats", "fun_words", "norm_words", "exp_words", "dwp_words", "mid_words",
    "feature_words", "agg_word_beats", "agg_weights", "agg_heads",
    "agg_contexts", "agg_groups", "sgb_columns", "sgb_ids", "rst_vertices", "rows_fifo_words", "queue_depth",
    "engine_fifo_depth", "gemm_d_rows", "gemm_d_cols", "gemm_l_rows", "gemm_l_cols", "gemm_l_acc_bits",
]  # fmt: skip


@settings(deadline=None)
@given(geometries, FORMS, st.sampled_from(GROWING), st.integers(1, 3000))
def test_a_larger_design_never_needs_less(geometry: Geometry, form: Form, name: str, more: int) -> None:
    value = getattr(geometry, name)
    doubled = {"agg_word_beats": 8} | {name: 32 for name in GROWING if name.startswith("gemm")}
    grown = replace(geometry, **{name: min(2 * value, doubled[name]) if name in doubled else value + more})
    small, large = design_resources(geometry, form), design_resources(grown, form)
    for part in small:
        assert all(a <= b for a, b in zip(astuple(small[part]), astuple(large[part]), strict=True)), part
        assert min(astuple(small[part])) >= 0


def test_every_parameter_is_grown() -> None:
    assert {*GROWING, "engines", "bus_bits"} == {field.name for field in fields(Geometry)}


@settings(deadline=None)
@given(geometries, FORMS)
def test_the_total_is_the_sum_of_the_parts(geometry: Geometry, form: Form) -> None:
    parts = design_resources(geometry, form)
    sums = [sum(values) for values in zip(*(astuple(part) for part in parts.values()), strict=True)]
    assert list(astuple(total(parts))) == pytest.approx(sums)
    memories = {m.name for m in isa().memories if m.word_bits and {m.writer, m.reader} <= set(geometry.engines)}
    memories = {name for name in memories if geometry.depth(name)}
    streams = {s.name for s in isa().streams if {s.writer, s.reader} <= set(geometry.engines)}
    assert set(parts) == {"dispatch", "memory ports", *geometry.engines, *memories, *streams}


def test_an_engine_that_is_left_out_needs_nothing() -> None:
    geometry = replace(default_design().geometry, engines=("load", "store", "gemm_d", "vec"))
    parts = design_resources(geometry, Form.MAPPED)
    memories = {"act_d_ram", "wgt_d_ram", "par_ram", "acc_d_ram", "out_ram", "load_context"}
    assert set(parts) == {"dispatch", "memory ports", *geometry.engines, *memories}
    assert total(parts).dsp < total(design_resources(default_design().geometry, Form.MAPPED)).dsp


@pytest.mark.parametrize(
    ("depth", "bits", "true_dual", "expected"),
    [
        (512, 36, False, 0.5),
        (512, 36, True, 1.0),
        (513, 36, False, 1.0),
        (1024, 36, False, 1.0),
        (1024, 18, True, 0.5),
        (4096, 128, False, 15.0),
        (16384, 1, True, 0.5),
        (1, 1, True, 0.5),
    ],
)
def test_block_rams_by_hand(depth: int, bits: int, true_dual: bool, expected: float) -> None:
    """4,096 words of 128 bits are two rows of 15 RAMB18 of 2,048 x 9; any other aspect ratio needs 32."""
    assert block_rams(depth, bits, true_dual=true_dual) == expected


def test_products_by_hand() -> None:
    """GEMM-D 8 for 2 x 2 sums, VEC 8 lanes * 2, AGG 8 * 2 and four addresses, LOAD one, STORE two.

    Attention: a product of each lane by the weight, two for a logit's, and three addresses.
    """
    geometry = replace(default_design().geometry, gemm_d_rows=6, gemm_d_cols=16, agg_heads=4)
    for form in Form:
        assert total(design_resources(geometry, form)).dsp == 6 * 16 * 2 + 16 + 20 + 13 + 1 + 2


def test_banks_by_hand() -> None:
    """Six RAMs of 512 x 64 bits take one RAMB36 each, three of 1,024 x 128 bits eight RAMB18 of 1,024 x 18 each."""
    geometry = replace(default_design().geometry, gemm_d_rows=6, act_d_words=512, gemm_l_rows=3, act_l_words=1024)
    parts = design_resources(geometry, Form.MAPPED)
    assert (parts["act_d_ram"].bram36, parts["act_l_ram"].bram36) == (6 * 1, 3 * 4)


def test_the_form_says_which_elements_are_counted() -> None:
    geometry = default_design().geometry
    mapped, plain = (design_resources(geometry, form) for form in (Form.MAPPED, Form.PLAIN))
    assert {name for name in mapped if mapped[name] != plain[name]} == {"gemm_d", "gemm_l"}
    assert all(mapped[name].lut < plain[name].lut for name in ("gemm_d", "gemm_l"))
    design = default_design()
    for form in Form:
        found = {name: need for name, need, _ in resource_rows(replace(design, elements=form.value))}
        assert found["lut"] == math.ceil(total(design_resources(geometry, form)).lut)


def test_every_constant_has_an_origin_and_is_not_negative() -> None:
    assert all(constant.value >= 0 and constant.origin and constant.unit for constant in area_constants().values())


def test_a_design_fits_exactly_what_it_needs() -> None:
    design = default_design()
    needs = {name: need for name, need, _ in resource_rows(design)}
    exact = replace(read_board(design.board), resources=needs)
    check_fits(design, exact)
    for name, need in needs.items():
        if need:
            smaller = replace(exact, resources={**needs, name: need - 1})
            with pytest.raises(DesignTooLargeError) as caught:
                check_fits(design, smaller)
            assert caught.value.found.endswith(
                f"board 'pynq-z2': {name}: needs {need:,} (modelled), there are {need - 1:,}"
            )


def test_a_crowded_resource_is_named() -> None:
    design = default_design()
    needs = {name: need for name, need, _ in resource_rows(design)}
    roomy = replace(read_board(design.board), resources={name: 2 * need for name, need in needs.items()})
    assert crowded(design, roomy) == []
    for name, need in needs.items():
        if need:
            narrow = replace(roomy, resources={**roomy.resources, name: need})
            assert crowded(design, narrow) == [
                f"{name}: 100% of the board's {need:,} (modelled); above 85%, placement or timing may fail"
            ]
    assert crowded(design, replace(roomy, resources={name: math.ceil(n / 0.85) for name, n in needs.items()})) == []


def test_every_default_design_fits_its_board() -> None:
    for name in board_names():
        if (DESIGNS / f"{name}.json").is_file():
            check_fits(default_design(name))


def test_ports_by_hand() -> None:
    """One direction of LOAD, STORE and DISPATCH, three of AGG's two ports; DISPATCH's queues and registers."""
    parts = design_resources(replace(default_design().geometry, sum_words=1024, agg_heads=4), Form.MAPPED)
    assert [parts[name].bram36 for name in ("load", "store")] == [1, 1]
    # Queues of all engines as five RAMB18 of 512 x 36 bits, arguments as two with two full ports, the status as one.
    assert parts["dispatch"].bram36 == 1 + 2.5 + 1 + 0.5
    # 256 destinations of 78 bits, and 1,024 words of 256 bits with two full ports beside the two ports.
    # Attention: nine sums of 36 bits by 512, as many beats of targets, vertices of edges, 2,308 weights of 12 bits.
    assert parts["agg"].bram36 == 1.5 + 7.5 + 3 + 9 * 0.5 + 1 + 0.5 + 1.5


def test_directions_of_ports_are_those_of_the_directives() -> None:
    """A direction with one burst outstanding is not used."""
    for engine, port in MASTERS:
        text = (KERNELS / f"{engine}.cpp").read_text(encoding="utf-8")
        directive = re.search(rf"mode=m_axi port={port} (?:.*\\\n)*.*", text)
        assert directive
        read, write = (
            int(re.findall(rf"num_{name}_outstanding=(\d+)", directive[0])[0]) > 1 for name in ("read", "write")
        )
        assert (read, write) == ((engine, port) not in WRITTEN, (engine, port) in (*WRITTEN, *READ_AND_WRITTEN))


def test_only_masters_that_share_a_port_take_an_interconnect() -> None:
    """On four ports AGG's two and LOAD's are alone, STORE and DISPATCH share; without AGG nobody does."""
    geometry = default_design().geometry
    cores = replace(geometry, engines=("load", "store", "gemm_d", "gemm_l", "vec"))
    share, converter = (area_constants()[f"lut_per_{name}"].value for name in ("interconnect_port", "write_converter"))
    zynq, ultrascale = read_board("pynq-z2"), read_board("zcu104")
    assert memory_port_resources(geometry, zynq).lut == converter + 2 * share
    assert memory_port_resources(geometry, replace(zynq, ports=2)).lut == converter + 4 * share
    assert memory_port_resources(cores, zynq).lut == converter
    assert memory_port_resources(cores, ultrascale).lut == 0


@pytest.mark.parametrize(("depth", "bits", "lut"), [(16, 128, 88), (32, 6, 4), (33, 3, 4), (64, 128, 172), (65, 1, 8)])
def test_lut_ram_by_hand(depth: int, bits: int, lut: float) -> None:
    """Of four LUTs: 32 words of 6 bits, or 64 of 3."""
    assert lut_ram(depth, bits) == lut


def test_an_unknown_board_is_named() -> None:
    with pytest.raises(DesignInvalidError) as caught:
        check_fits(replace(default_design(), board="breadboard"))
    assert caught.value.found == "there is no board 'breadboard'"
