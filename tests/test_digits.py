# SPDX-License-Identifier: Apache-2.0
"""The networks trained on digits keep their accuracy in integers, from the command line too."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.cli.main import main
from hetfab.driver.samples import accuracy
from hetfab.driver.samples import read_samples as read
from hetfab.overlay.errors import SamplesInvalidError
from hetfab.overlay.model.binding import Samples
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.interpreter import logits
from hetfab.overlay.model.reader import bindings_of, read_model
from hetfab.overlay.model.runtime import run_model
from tests.outside import ROOT, module

FOLDER = ROOT / "examples" / "digits"
SHAPES = {"cnn": (1, 8, 8), "mlp": (64,)}
#: In points. The convolutional network's 600 test images are 0.17 points each.
LOST = {"w8a8": 0.3, "w4a8": 0.8, "w4a4": 0.8}


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any]:
    """The digits of training and test."""
    train, test = module("examples.digits.data").digits()
    return train, test


def share_right(found: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> float:
    return float(np.mean(found.reshape(len(labels), -1).argmax(axis=1) == labels))


def test_the_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.onnx")) < 100_000


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("bits", LOST)
def test_integers_keep_the_accuracy(name: str, bits: str, parts: tuple[Any, Any], tmp_path: Path) -> None:
    """First and last layers have 8 bits; numbers are chosen on the training part, and counted on the test part."""
    train, test = parts
    images = test.images.reshape(-1, *SHAPES[name])
    model, output = FOLDER / f"{name}.onnx", tmp_path / "model.q.onnx"
    np.savez(tmp_path / "digits.npz", samples=train.images.reshape(-1, *SHAPES[name]), labels=train.labels)
    arguments = ["--samples", str(tmp_path / "digits.npz"), "--bits", bits, "--first-last", "w8a8", "-o", str(output)]
    assert main(["quantize", str(model), *arguments]) == 0
    quantized = read_model(output)
    before = share_right(run_model(read_model(model), {"pixels": images}, ["logits"])[0], test.labels)
    integers = read_integers(quantized)
    found = logits(integers, images)
    in_runtime = run_model(quantized, {"pixels": images}, ["logits"])[0]
    assert np.array_equal(found * integers.output.scale, in_runtime)
    assert before > 0.97
    assert share_right(found, test.labels) >= before - LOST[bits] / 100


def test_the_models_say_their_shape_by_their_form() -> None:
    for name, shape in SHAPES.items():
        assert bindings_of(read_model(FOLDER / f"{name}.onnx")) == {"pixels": Samples(shape)}


def test_the_files_name_no_folder_of_a_machine() -> None:
    for path in FOLDER.glob("*.onnx"):
        assert b"/" + b"site-packages" not in path.read_bytes() and b".py" not in path.read_bytes()


@pytest.fixture
def samples(tmp_path: Path, parts: tuple[Any, Any]) -> Path:
    path = tmp_path / "digits.npz"
    np.savez(path, samples=parts[0].images[:100], labels=parts[0].labels[:100])
    return path


def test_quantize_prints_what_it_chose(samples: Path, tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "model.q.onnx"
    arguments = ["quantize", str(FOLDER / "cnn.onnx"), "--samples", str(samples), "-o", str(output), "--bits", "w4a4"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bits"] == found["first_last"] == "w4a4"
    assert found["float_accuracy"] == 1.0 and found["quantized_accuracy"] > 0.95
    assert found["may_round"] == []
    assert found["ranges"]["pixels"] == {"bits": 4, "signed": False, "exponent": -4}
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "float model" in text and "right of the samples" in text
    assert text.endswith(f"next: hetfab inspect {output}\n")


def test_inspect_shows_float_and_integer_layers(samples: Path, tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "model.q.onnx"
    assert main(["inspect", str(FOLDER / "cnn.onnx")]) == 0
    text = capsys.readouterr().out
    assert "pixels  batch x 1 x 8 x 8  samples of 1 x 8 x 8" in text
    assert "depthwise 3 x 3, pad 1" in text and "clip 0..6" in text and "32 x 4 x 4" in text
    assert f"--samples SAMPLES -o {'cnn.q.onnx'}" in text
    arguments = ["quantize", str(FOLDER / "cnn.onnx"), "--samples", str(samples), "-o", str(output)]
    assert main([*arguments, "--bits", "w4a4", "--first-last", "w8a8"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(output), "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert [layer["kind"] for layer in layers] == [
        "conv 3 x 3, pad 1 + relu",
        "conv 1 x 1 + relu",
        "depthwise 3 x 3, pad 1 + relu",
        "largest of 2 x 2, stride 2",
        "conv 1 x 1",
        "conv 3 x 3, pad 1 + relu",
        "conv 3 x 3, pad 1 + add + relu",
        "mean of 4 x 4",
        "dense",
    ]
    assert [layer["weight_bits"] for layer in layers if layer["weights"]] == [[8], [4], [4], [4], [4], [4], [8]]
    assert [layer["bits"] for layer in layers] == [4, 4, 4, 4, 4, 4, 4, 8, 32]
    assert [layer["shape"] for layer in layers][-4:] == ["16 x 4 x 4", "16 x 4 x 4", "16 x 1 x 1", "10"]
    assert main(["inspect", str(output)]) == 0
    assert "next: hetfab compile" in capsys.readouterr().out


@pytest.mark.parametrize("name", SHAPES)
def test_the_overlay_gives_the_logits_of_onnxruntime(
    name: str, parts: tuple[Any, Any], tmp_path: Path, capsys: Any
) -> None:
    """On the emulated overlay; 60 images of each class's share in the test part."""
    train, test = parts
    paths = {}
    for key, images, labels in (("train", train.images, train.labels), ("test", test.images[:60], test.labels[:60])):
        paths[key] = str(tmp_path / f"{key}.npz")
        np.savez(paths[key], samples=images.reshape(-1, *SHAPES[name]), labels=labels)
    quantized, program = str(tmp_path / "model.q.onnx"), str(tmp_path / "model.hfp")
    assert main(["quantize", str(FOLDER / f"{name}.onnx"), "--samples", paths["train"], "-o", quantized]) == 0
    assert main(["compile", quantized, "-o", program]) == 0
    capsys.readouterr()
    predictions = tmp_path / "predictions.npz"
    arguments = ["run", program, "--samples", paths["test"], "--reference", quantized, "-o", str(predictions)]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"] == 60 and found["agreement"] == 1.0 and found["max_logit_lsb"] == 0.0
    assert found["accuracy"] == found["reference_accuracy"] >= 0.95
    with np.load(predictions) as saved:
        assert saved["logits"].shape == (60, 10) and np.mean(saved["predictions"] == test.labels[:60]) >= 0.95


def test_a_run_takes_a_graph_or_samples(capsys: Any) -> None:
    for arguments in ([], ["--graph", "g.npz", "--samples", "s.npz"]):
        assert main(["run", "model.hfp", *arguments, "--json"]) == 2
        assert json.loads(capsys.readouterr().out)["error"]["found"].startswith("Give one of --graph GRAPH and ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give either --graph or --samples to calibrate with."),
        (["--graph", "g.npz", "--samples", "s.npz"], "Give either --graph or --samples to calibrate with."),
        (["--graph", "g.npz", "--first-last", "w8a8"], "--first-last is for networks on samples."),
    ],
)
def test_calls_that_say_too_little_or_too_much_are_refused(arguments: list[str], message: str, capsys: Any) -> None:
    assert main(["quantize", "model.onnx", "-o", "q.onnx", *arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["found"] == message


def test_a_model_that_reads_a_graph_takes_no_samples(samples: Path, tmp_path: Path, capsys: Any) -> None:
    model = ROOT / "driver" / "demo" / "rgcn.onnx"
    output = str(tmp_path / "q.onnx")
    assert main(["quantize", str(model), "--samples", str(samples), "-o", output, "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "binding-invalid"
    assert error["found"].endswith("of which 0 take samples")


def test_a_model_on_samples_takes_no_graph(tmp_path: Path, capsys: Any) -> None:
    from hetfab.driver.graph.generate import academic
    from hetfab.driver.graph.npz import write_graph

    write_graph(tmp_path / "graph.npz", academic(1))
    arguments = ["--graph", str(tmp_path / "graph.npz"), "-o", str(tmp_path / "q.onnx")]
    assert main(["quantize", str(FOLDER / "cnn.onnx"), *arguments, "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["found"] == "the input 'pixels' takes samples of 1 x 8 x 8, which belong to no graph"
    assert "--samples FILE" in error["do"]


Arrays = dict[str, npt.NDArray[Any]]
GOOD = np.zeros((4, 1, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({"images": GOOD}, "'s.npz' holds the arrays images"),
        ({"samples": GOOD, "extra": GOOD}, "'s.npz' holds the arrays extra, samples"),
        ({"samples": GOOD[:, :, :7]}, "'s.npz' holds samples of float32 [4, 1, 7, 8], but the model takes [1, 8, 8]"),
        ({"samples": GOOD[:0]}, "'s.npz' holds samples of float32 [0, 1, 8, 8], but the model takes [1, 8, 8]"),
        ({"samples": GOOD.astype(bool)}, "'s.npz' holds samples of bool [4, 1, 8, 8], but the model takes [1, 8, 8]"),
        ({"samples": np.full_like(GOOD, np.nan)}, "samples of 's.npz' are NaN or infinite"),
        ({"samples": GOOD, "labels": np.zeros(3, int)}, "'s.npz' holds labels of int64 [3] for 4 samples"),
        ({"samples": GOOD, "labels": np.zeros(4)}, "'s.npz' holds labels of float64 [4] for 4 samples"),
    ],
)
def test_wrong_samples_are_named(arrays: Arrays, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("s.npz", **arrays)  # type: ignore[arg-type]
    check_refused(found)


def check_refused(found: str) -> None:
    with pytest.raises(SamplesInvalidError) as caught:
        read(Path("s.npz"), (1, 8, 8))
    assert caught.value.found.startswith(found)
    assert caught.value.do == "write it with numpy.savez(FILE, samples=..., labels=...)"


def write_text() -> None:
    Path("s.npz").write_text("no archive")


def write_truncated() -> None:
    np.savez("s.npz", samples=GOOD)
    data = Path("s.npz").read_bytes()
    Path("s.npz").write_bytes(data[: len(data) // 2])


def write_one_array() -> None:
    with Path("s.npz").open("wb") as file:
        np.save(file, GOOD)


@pytest.mark.parametrize("write", [lambda: None, write_text, write_truncated, write_one_array])
def test_files_that_hold_no_samples_are_refused(
    write: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write()
    check_refused("cannot read the samples 's.npz': ")


def test_whole_numbers_are_samples_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", samples=np.arange(12, dtype=np.uint8).reshape(3, 4))
    found = read(tmp_path / "s.npz", (4,))
    assert found.labels is None and found.samples.dtype == np.float32
    assert [batch.tolist() for batch in found.batches(2)] == [[[0, 1, 2, 3], [4, 5, 6, 7]], [[8, 9, 10, 11]]]


def test_accuracy_needs_labels_and_fills_fixed_batches(parts: tuple[Any, Any], samples: Path, tmp_path: Path) -> None:
    model = read_model(FOLDER / "cnn.onnx")
    labelled = read(samples, (1, 8, 8))
    assert accuracy(model, labelled) == 1.0
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 30
    assert accuracy(model, labelled) == 1.0
    np.savez(tmp_path / "s.npz", samples=parts[0].images[:100])
    assert accuracy(model, read(tmp_path / "s.npz", (1, 8, 8))) is None
