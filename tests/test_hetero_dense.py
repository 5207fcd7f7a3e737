# SPDX-License-Identifier: Apache-2.0
"""``HeteroDense`` computes its definition: every width, either engine and both, in every kind of project."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.hls.hls4ml_extension import Split, dense_layer, register
from hetfab.overlay.errors import FieldRangeError, Hls4mlRefusedError, OverflowPossibleError, SplitInvalidError
from hetfab.overlay.isa.arithmetic import requantize
from tests.outside import module
from tests.qonnx_models import PART

Integers = npt.NDArray[np.int64]

INPUTS, OUTPUTS, ROWS, SAMPLES = 70, 7, 3, 24


@dataclass(frozen=True)
class Case:
    """A layer: the width of its weights, what it reads, where its outputs are, and the type of its results."""

    bits: int
    source: str
    split: Split | None
    result: str


CASES = {
    "w1": Case(1, "wide", Split(0, 2, 3), "fixed<8,8,RND_CONV,SAT>"),
    "w2": Case(2, "narrow", Split(3, 2, 2), "fixed<8,8,RND_CONV,SAT>"),
    "w3": Case(3, "wide", Split(4, 4, 1), "ufixed<4,4,RND_CONV,SAT>"),
    "w4": Case(4, "narrow", Split(OUTPUTS, 2, 1), "fixed<8,8,RND_CONV,SAT_SYM>"),
    "w5": Case(5, "wide", None, "auto"),
    "w8": Case(8, "wide", Split(5, 2, 4), "fixed<24,22,RND_CONV,SAT>"),
    "w8n": Case(8, "narrow", Split(2, 2, 2), "auto"),
}
SOURCES = {"wide": ("fixed<8,8>", -128, 127), "narrow": ("ufixed<4,4>", 0, 15)}


def weights(bits: int) -> Integers:
    random = np.random.default_rng(bits)
    if bits == 1:
        return random.choice([-1, 1], (INPUTS, OUTPUTS)).astype(np.int64)
    limit = (1 << (bits - 1)) - 1
    return random.integers(-limit, limit + 1, (INPUTS, OUTPUTS))


def numbers(name: str) -> tuple[Integers, Integers, int]:
    """Bias, multipliers and exponent of a layer; half of the layers shift by few bits, so that halves are many."""
    random = np.random.default_rng(ord(name[-1]))
    bias = random.integers(-900, 900, OUTPUTS)
    if CASES[name].bits in (2, 4, 8):
        return bias, random.integers(1, 4, OUTPUTS), 4
    return bias, random.integers(1, 1 << 16, OUTPUTS), 20 if CASES[name].bits > 2 else 17


def golden(name: str, rows: Integers) -> npt.NDArray[Any]:
    """The definition of ``dense_layer`` on the values of hls4ml's types."""
    case, (bias, multiplier, exponent) = CASES[name], numbers(name)
    sums = rows @ weights(case.bits) + bias
    if case.result == "auto":
        return sums * multiplier * 2.0**-exponent
    fraction = 2 if "24,22" in case.result else 0
    found = requantize(sums, multiplier, exponent - fraction)
    lowest, highest = {"u": (0, 15), "f": (-128, 127)}[case.result[0]]
    if "SAT_SYM" in case.result:
        lowest = -127
    if fraction:
        lowest, highest = -(1 << 23), (1 << 23) - 1
    return np.clip(found, lowest, highest) * 2.0**-fraction


def project(folder: Path, backend: str, io_type: str) -> Any:
    """A project with all layers, which read two inputs."""
    register()
    from hls4ml.model import ModelGraph
    from hls4ml.utils.config import create_config

    layers: list[dict[str, Any]] = [
        {"class_name": "InputLayer", "name": name, "input_shape": [ROWS, INPUTS]} for name in SOURCES
    ]
    for name, case in CASES.items():
        bias, multiplier, exponent = numbers(name)
        described = dense_layer(
            name,
            case.source,
            weights(case.bits),
            bias=bias,
            multiplier=multiplier,
            exponent=exponent,
            split=case.split,
        )
        layers.append(described)
    types = {name: {"Precision": {"result": kind}} for name, (kind, _, _) in SOURCES.items()}
    types |= {name: {"Precision": {"result": case.result}} for name, case in CASES.items()}
    config = create_config(output_dir=str(folder), project_name="net", backend=backend, part=PART, io_type=io_type)
    config["HLSConfig"] = {"Model": {"Precision": {"default": "fixed<16,6>"}, "ReuseFactor": 1}, "LayerName": types}
    with contextlib.redirect_stdout(io.StringIO()):
        return ModelGraph.from_layer_list(config, layers, list(SOURCES), list(CASES))


def drawn() -> dict[str, Integers]:
    random = np.random.default_rng(3)
    return {name: random.integers(low, high + 1, (SAMPLES, ROWS, INPUTS)) for name, (_, low, high) in SOURCES.items()}


def check(model: Any) -> None:
    """All results are the definition's."""
    inputs = drawn()
    found = model.predict([np.ascontiguousarray(rows, np.float64) for rows in inputs.values()])
    for name, values in zip(CASES, found, strict=True):
        expected = golden(name, inputs[CASES[name].source])
        assert np.array_equal(values.reshape(expected.shape), expected), name


@pytest.mark.parametrize(("backend", "io_type"), [("Vitis", "io_stream"), ("Vivado", "io_parallel")])
def test_every_width_on_every_engine_is_exact(backend: str, io_type: str, tmp_path: Path) -> None:
    model = project(tmp_path / "net", backend, io_type)
    with contextlib.redirect_stdout(io.StringIO()):
        model.compile()
    check(model)


def test_the_integers_of_synthesis_give_the_same_bits(tmp_path: Path) -> None:
    """The generated script of Vitis HLS asks for C++11, where the layer's integers are ap_int."""
    folder = tmp_path / "net"
    model = project(folder, "Vitis", "io_parallel")
    model.write()
    assert '-cflags "-std=c++0x"' in (folder / "build_prj.tcl").read_text()
    script = (folder / "build_lib.sh").read_text()
    changed = script.replace("-O3", "-O1").replace("-std=c++23", "-std=c++11")
    assert changed.count("-std=c++11") > script.count("-std=c++11")
    (folder / "build_lib.sh").write_text(changed)
    with contextlib.redirect_stdout(io.StringIO()):
        model._compile()
    check(model)


def layer(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"weight": np.ones((4, 2), np.int64)} | changes
    return dense_layer("proj", "x", **arguments)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"weight": np.full((4, 2), 128)}, FieldRangeError, "weight 128\n  expected: integers -128..127"),
        ({"weight": np.full((4, 2), 0.5)}, FieldRangeError, "weight 0.5\n  expected: integers -128..127"),
        ({"weight": np.ones(4)}, FieldRangeError, r"layer 'proj' has weights of shape \(4,\)"),
        ({"multiplier": 0}, FieldRangeError, "multiplier 0\n  expected: integers 1..65535"),
        ({"bias": 2**31}, FieldRangeError, "bias 2147483648"),
        ({"split": Split(3)}, SplitInvalidError, "has 2 outputs, of which 3 are to be on DSPs"),
    ],
)
def test_a_layer_that_fits_no_field_is_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        layer(**changes)


def test_an_odd_parallelism_on_dsps_is_refused() -> None:
    with pytest.raises(SplitInvalidError, match="an even dsp_parallel of at least 2"):
        Split(2, dsp_parallel=3)


def small(folder: Path, result: str = "auto", given: str = "fixed<8,8>", **changes: Any) -> Any:
    from hls4ml.model import ModelGraph
    from hls4ml.utils.config import create_config

    register()
    options = {"backend": "Vitis", "io_type": "io_stream"}
    options |= {name: changes.pop(name) for name in options if name in changes}
    config = create_config(output_dir=str(folder), project_name="net", part=PART, **options)
    types = {"x": {"Precision": {"result": given}}, "proj": {"Precision": {"result": result}}}
    config["HLSConfig"] = {"Model": {"Precision": {"default": "fixed<16,6>"}, "ReuseFactor": 1}, "LayerName": types}
    source = {"class_name": "InputLayer", "name": "x", "input_shape": [4]}
    with contextlib.redirect_stdout(io.StringIO()):
        return ModelGraph.from_layer_list(config, [source, layer(**changes)], ["x"], ["proj"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"result": "fixed<4,4>"}, Hls4mlRefusedError, "is to write results of type fixed<4,4,TRN,WRAP,0>; exact"),
        ({"given": "fixed<9,9>"}, Hls4mlRefusedError, "'proj' reads numbers of type fixed<9,9,TRN,WRAP,0>"),
        ({"backend": "Quartus"}, Hls4mlRefusedError, "'proj' in a project for Quartus with io_stream"),
        ({"weight": np.ones((5, 2))}, Hls4mlRefusedError, "'proj' has 5 inputs and reads rows of 4 channels"),
        (
            {"weight": np.full((4, 2), -128), "split": Split(1)},
            FieldRangeError,
            "output 0 of layer 'proj' is on DSPs and has a weight of -128",
        ),
        ({"bias": 2**31 - 100}, OverflowPossibleError, "a sum of layer 'proj' with its bias takes 33 bits"),
        ({"result": "fixed<50,18>"}, FieldRangeError, "has a multiplier of 4294967296 for results of type"),
    ],
)
def test_a_project_that_cannot_hold_the_layer_is_refused(
    changes: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        small(tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_weights_of_the_whole_range_go_to_luts_by_themselves(tmp_path: Path) -> None:
    model = small(tmp_path, weight=np.array([[1, -128]] * 4))
    assert model.graph["proj"].get_attr("packing").split.dsp_channels == 1


def test_the_configuration_of_hls4ml_sets_engines(tmp_path: Path) -> None:
    from hls4ml.model import ModelGraph
    from hls4ml.utils.config import create_config

    register()
    config = create_config(output_dir=str(tmp_path), project_name="net", part=PART, backend="Vitis")
    engines = {"DspChannels": 1, "DspParallel": 4, "LutParallel": 3}
    types = {"x": {"Precision": {"result": "fixed<8,8>"}}, "proj": {"Precision": {"result": "auto"}} | engines}
    config["HLSConfig"] = {"Model": {"Precision": {"default": "fixed<16,6>"}, "ReuseFactor": 1}, "LayerName": types}
    source = {"class_name": "InputLayer", "name": "x", "input_shape": [4]}
    model = ModelGraph.from_layer_list(config, [source, layer()], ["x"], ["proj"])
    assert model.graph["proj"].get_attr("packing").split == Split(1, 4, 3)


def test_the_example_is_exact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = module("examples.hls4ml.dense_project")
    with mock.patch("sys.argv", ["dense_project.py", str(tmp_path / "project")]):
        example.main()
    assert capsys.readouterr().out.splitlines()[-1] == "equal"
