# SPDX-License-Identifier: Apache-2.0
"""Design files: any JSON gives a design or a ``DesignInvalidError``; what is accepted is what was written."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.overlay.design import default_design, design_from_dict, read_design
from hetfab.overlay.errors import DesignInvalidError

DEFAULT: dict[str, Any] = json.loads(json.dumps(default_design().as_dict()))
PLACES: list[tuple[Any, ...]] = (
    [(name,) for name in DEFAULT] + [("geometry", name) for name in DEFAULT["geometry"]] + [("new",), ()]
)
PLACES += [("geometry", "new"), ("geometry", "engines", 0)]
NUMBERS = st.integers() | st.integers(0, 5000) | st.floats() | st.sampled_from([8, 16, 32, 64, 2**64, 10**4000])
NAMES = st.text() | st.sampled_from(["agg", "load", "dispatch", "\ud800", "", "a\nb", "../a"])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | NAMES,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(NAMES, values, max_size=4),
    max_leaves=8,
)


def changed(place: tuple[Any, ...], value: Any) -> Any:
    table = copy.deepcopy(DEFAULT)
    inner = table
    for key in place[:-1]:
        inner = inner[key]
    if not place:
        return value
    inner[place[-1]] = value
    return table


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(PLACES), JSON)
def test_any_value_at_any_key_gives_a_design_or_an_error(place: tuple[Any, ...], value: Any) -> None:
    table = changed(place, value)
    try:
        design = design_from_dict(table, "d.json")
    except DesignInvalidError as error:
        assert str(error).startswith("the design 'd.json' cannot be used: ") and len(error.found) < 5000
        return
    assert json.loads(json.dumps(design.as_dict())) == table
    assert len(design.hash()) == 64 and design.geometry.constants()["lanes"] == 8


@pytest.mark.parametrize(
    ("place", "value", "found"),
    [
        (("geometry", "engines"), [["load"]], "engines is [['load']]"),
        (("geometry", "engines"), [{}], "engines is [{}]"),
        (("geometry", "engines"), "load", "engines is 'load'"),
        (("geometry", "engines"), ["load", "agg", "load"], "engines names more than once: load"),
        (("geometry", "gemm_d_rows"), True, "gemm_d_rows is True"),
        (("geometry", "gemm_d_rows"), 7, "gemm_d_rows is 7"),
        (("geometry", "gemm_d_cols"), 12, "gemm_d_cols is 12"),
        (("geometry", "gemm_l_rows"), 33, "gemm_l_rows is 33"),
        (("geometry", "gemm_l_cols"), 4, "gemm_l_cols is 4"),
        (("geometry", "agg_word_beats"), 3, "agg_word_beats is 3"),
        (("geometry", "agg_word_beats"), 16, "agg_word_beats is 16"),
        (("geometry", "gemm_l_acc_bits"), 23, "gemm_l_acc_bits is 23"),
        (("elements",), "fast", "elements is 'fast'"),
        (("elements",), ["mapped"], "elements is ['mapped']"),
        (("geometry", "act_d_words"), 4096.0, "act_d_words is 4096.0"),
        (("clock_mhz",), True, "clock_mhz is True"),
        (("clock_mhz",), float("nan"), "clock_mhz is nan"),
        (("clock_mhz",), "100", "clock_mhz is '100'"),
        (("name",), None, "name is None"),
        (("name",), "a/b", "name is 'a/b'"),
        (("board",), ["pynq-z2"], "board is ['pynq-z2']"),
        (("origin",), "", "origin is ''"),
        (("name",), "\ud800", r"name is '\ud800'"),
        (("name",), 100 * "x" + "\n", f"name is '{79 * 'x'}..."),
        (("geometry",), [], "it has no object 'geometry'"),
        (("geometry", "lut"), 1, "unknown: lut"),
    ],
)
def test_what_is_not_allowed_is_named(place: tuple[str, ...], value: Any, found: str) -> None:
    with pytest.raises(DesignInvalidError) as caught:
        design_from_dict(changed(place, value), "d.json")
    assert caught.value.found == f"the design 'd.json' cannot be used: {found}"
    assert caught.value.do == "correct the file, or start from a default design"


def test_words_of_several_groups_need_a_scratchpad() -> None:
    table = changed(("geometry", "agg_word_beats"), 4)
    assert design_from_dict(table, "d.json").geometry.feature_words
    table["geometry"]["feature_words"] = 0
    with pytest.raises(DesignInvalidError) as caught:
        design_from_dict(table, "d.json")
    assert caught.value.found.endswith("agg_word_beats is 4 without a scratchpad")
    assert caught.value.expected == "1 where feature_words is 0"


def test_long_words_need_few_groups() -> None:
    """Or a row would be requested later than AGG's pipeline reads it."""
    table = changed(("geometry", "agg_word_beats"), 8)
    assert design_from_dict(table, "d.json").geometry.agg_word_beats == 8
    table["geometry"]["agg_groups"] = 9
    with pytest.raises(DesignInvalidError) as caught:
        design_from_dict(table, "d.json")
    assert caught.value.found.endswith("agg_word_beats is 8 and agg_groups 9")
    assert caught.value.expected.startswith("at most 8 groups")


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"\xff", b"{'name': 1}"])
def test_files_that_are_no_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.json").write_bytes(content)
    with pytest.raises(DesignInvalidError) as caught:
        read_design(tmp_path / "d.json")
    assert caught.value.found.startswith(f"cannot read the design '{tmp_path / 'd.json'}': ")


def test_a_written_design_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps(default_design().as_dict()))
    assert read_design(tmp_path / "d.json") == default_design()
