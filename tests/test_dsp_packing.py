# SPDX-License-Identifier: Apache-2.0
"""Packed products: every row of the table is exact for all operands, up to its accumulations and not one further."""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.overlay.isa.dsp_packing import DspSlice, Packing, dsp_slices, packings

Integers = npt.NDArray[np.int64]
PAGE = Path(__file__).parents[1] / "docs" / "dsp-packing.md"
SLICES = {dsp.name: dsp for dsp in dsp_slices()}


def cut(values: Integers, bits: int) -> Integers:
    """What a signed port of ``bits`` bits keeps."""
    return (values << (64 - bits)) >> (64 - bits)


def operands(bits: int, unsigned: bool, narrow: bool = False) -> Integers:
    """All values of an operand."""
    half = 1 << (bits - 1)
    return np.arange(2 * half, dtype=np.int64) if unsigned else np.arange(-half + narrow, half, dtype=np.int64)


def start(row: Packing) -> int:
    """Half a field's range in every field but the top one."""
    return sum(1 << (field * row.spacing + row.spacing - 1) for field in range(row.products - 1))


def multiply(dsp: DspSlice, row: Packing, weights: tuple[Integers, Integers], acts: tuple[Integers, ...]) -> Integers:
    """The multiplier's output; weights meet in the pre-adder, whose result is cut to the port as well."""
    upper = row.spacing * (row.products // 2)
    pair = cut(cut(weights[1] << upper, dsp.weight_port) + cut(weights[0], dsp.weight_port), dsp.weight_port)
    packed = acts[0] + (acts[1] << row.spacing) if len(acts) == 2 else acts[0]
    return pair * cut(packed, dsp.activation_port)


def fields(row: Packing, total: Integers) -> list[Integers]:
    """The sums: plain slices minus the start, and for the top field whatever lies above."""
    low = [(total >> (row.spacing * field)) & ((1 << row.spacing) - 1) for field in range(row.products - 1)]
    return [field - (1 << (row.spacing - 1)) for field in low] + [total >> (row.spacing * (row.products - 1))]


def true_products(weights: tuple[Integers, Integers], acts: tuple[Integers, ...]) -> list[Integers]:
    return [weight * act for weight in weights for act in acts]


def is_exact(dsp: DspSlice, row: Packing, times: int) -> bool:
    """Whether ``times`` equal multiplications give the sums, for all operands.

    The sum is linear in the products, so the extremes of unequal operands are those of equal ones.
    """
    values = operands(row.bits, False, row.narrow)
    weights = (values[:, None], values[None, :])
    acts = operands(row.bits, row.unsigned)
    chosen = [(act,) for act in acts] if row.products == 2 else [(low, high) for low in acts for high in acts]
    for act in chosen:
        total = cut(start(row) + times * multiply(dsp, row, weights, act), dsp.sum_port)
        found = fields(row, total)
        if any(np.any(a != times * b) for a, b in zip(found, true_products(weights, act), strict=True)):
            return False
    return True


def name(row: Packing) -> str:
    return f"{row.dsp}-{row.bits}-{'narrow' if row.narrow else 'full'}-{'unsigned' if row.unsigned else 'signed'}"


def test_the_table_has_each_case_once() -> None:
    expected = {
        f"{dsp}-{bits}-{weights}-{acts}"
        for dsp in ("dsp48e1", "dsp48e2")
        for bits in (8, 4)
        for weights in ("narrow", "full")
        for acts in ("signed", "unsigned")
    }
    assert len(packings()) == len(expected)
    assert {name(row) for row in packings()} == expected


@pytest.mark.parametrize("row", packings(), ids=name)
def test_every_row_is_exact_up_to_its_accumulations_and_no_further(row: Packing) -> None:
    dsp = SLICES[row.dsp]
    assert is_exact(dsp, row, 1)
    assert is_exact(dsp, row, row.accumulations)
    assert not is_exact(dsp, row, row.accumulations + 1)


@pytest.mark.parametrize("row", packings(), ids=name)
def test_fields_further_apart_do_not_fit_the_ports(row: Packing) -> None:
    wider = Packing(**{**vars(row), "spacing": row.spacing + 1})
    assert not is_exact(SLICES[row.dsp], wider, 1)


@pytest.mark.parametrize("row", packings(), ids=name)
def test_unequal_operands_accumulate_exactly(row: Packing) -> None:
    """Sums of 20,000 draws of extreme and other operands, cut to the ports after every addition."""
    dsp, random = SLICES[row.dsp], np.random.default_rng(7)
    values, acts = operands(row.bits, False, row.narrow), operands(row.bits, row.unsigned)
    total = np.full(20_000, start(row), np.int64)
    expected = [np.zeros(20_000, np.int64) for _ in range(row.products)]
    for _ in range(row.accumulations):
        weights = (draw(random, values), draw(random, values))
        chosen = tuple(draw(random, acts) for _ in range(row.products // 2))
        total = cut(total + multiply(dsp, row, weights, chosen), dsp.sum_port)
        expected = [old + new for old, new in zip(expected, true_products(weights, chosen), strict=True)]
    for found, want in zip(fields(row, total), expected, strict=True):
        np.testing.assert_array_equal(found, want)


def draw(random: np.random.Generator, values: Integers) -> Integers:
    """Half of the draws are the least and the greatest value."""
    extremes = values[[0, -1]]
    return np.where(random.random(20_000) < 0.5, random.choice(extremes, 20_000), random.choice(values, 20_000))


def test_the_page_shows_the_table() -> None:
    shown = re.findall(
        r"^\| (DSP48E[12]) \| (\d) \| (\w+) \| (\w+) \| (\d) \| (\d+) \| (\d+) \|", PAGE.read_text(), re.M
    )
    assert [(kind.lower(), *rest) for kind, *rest in shown] == [
        (
            row.dsp,
            str(row.bits),
            "narrow" if row.narrow else "full",
            "unsigned" if row.unsigned else "signed",
            str(row.products),
            str(row.spacing),
            str(row.accumulations),
        )
        for row in packings()
    ]
