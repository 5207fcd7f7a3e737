# SPDX-License-Identifier: Apache-2.0
"""Registration is idempotent, works whichever is imported first, and leaves plain projects of hls4ml as they are."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from hetfab.hls.hls4ml_extension import register
from hetfab.overlay.errors import PackageMissingError

#: Writes a plain project in a fresh process; the stamp of a project is a random number, here always the same.
_PLAIN = """
import sys, uuid
{before}
import hls4ml
{after}
import numpy as np
from hls4ml.model import ModelGraph
from hls4ml.model.quantizers import QuantNodeQuantizer
from hls4ml.model.types import FixedPrecisionType
from hls4ml.utils.config import create_config

uuid.uuid4 = lambda: uuid.UUID(int=7)
weight = np.arange(-8, 8).reshape(4, 4) / 8
dense = dict(class_name="Dense", name="dense", n_in=4, n_out=4, weight_data=weight, bias_data=np.zeros(4))
layers = [
    dict(class_name="InputLayer", name="x", input_shape=[4]),
    dict(dense, inputs=["x"], outputs=["dense"], weight_quantizer=QuantNodeQuantizer(FixedPrecisionType(4, 1))),
    dict(class_name="Activation", name="relu", activation="relu", inputs=["dense"], outputs=["relu"]),
]
for backend, io_type in (("Vitis", "io_stream"), ("Vivado", "io_parallel")):
    folder = f"{{sys.argv[1]}}/{{backend}}"
    config = create_config(output_dir=folder, project_name="net", backend=backend, io_type=io_type)
    config["HLSConfig"] = {{"Model": {{"Precision": {{"default": "fixed<16,6>"}}, "ReuseFactor": 1}}}}
    ModelGraph.from_layer_list(config, layers, ["x"], ["relu"]).write()
"""
_REGISTER = "from hetfab.hls.hls4ml_extension import register; register(); register()"


def written(folder: Path, before: str = "", after: str = "") -> dict[str, bytes]:
    """The files of plain projects by path; each process writes to the same folder, whose name is in some files."""
    folder.mkdir()
    program = _PLAIN.format(before=before, after=after)
    subprocess.run([sys.executable, "-W", "error::RuntimeWarning", "-c", program, str(folder)], check=True)
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    contents = {name: path.read_bytes() for name, path in files.items()}
    folder.rename(folder.with_name(f"moved-{before[:1]}-{after[:1]}"))
    return contents


def test_plain_projects_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    folder = tmp_path / "projects"
    plain = written(folder)
    assert len(plain) > 100
    assert written(folder, before=_REGISTER) == plain
    assert written(folder, after=_REGISTER) == plain


def test_importing_the_extension_does_not_import_hls4ml() -> None:
    program = "import sys, hetfab.hls.hls4ml_extension; sys.exit('hls4ml' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_registering_twice_changes_nothing() -> None:
    register()
    from hls4ml.model.flow import get_flow

    flows = ("parse_qonnx", "convert", "vivado:optimize", "vivado:write", "vitis:write")
    before = {name: list(get_flow(name).optimizers) for name in flows}
    register()
    assert {name: list(get_flow(name).optimizers) for name in flows} == before
    for passes in before.values():
        assert len([name for name in passes if name.startswith("hetero_")]) in (1, 2)
        assert len(set(passes)) == len(passes)


def test_without_hls4ml_the_package_is_named() -> None:
    found = importlib.util.find_spec

    def hidden(name: str, package: str | None = None) -> object:
        return None if name == "hls4ml" else found(name, package)

    with (
        mock.patch("importlib.util.find_spec", hidden),
        pytest.raises(PackageMissingError, match=r"hls4ml is not installed\n  expected: hls4ml 1\.3\n"),
    ):
        register()


def test_another_version_is_refused() -> None:
    message = r"hls4ml 1\.2\.0 is installed\n  expected: hls4ml 1\.3\n"
    with (
        mock.patch("importlib.metadata.version", return_value="1.2.0"),
        pytest.raises(PackageMissingError, match=message),
    ):
        register()
