# SPDX-License-Identifier: Apache-2.0
"""Real models of PyTorch Geometric are exported, lifted and checked; needs torch and torch_geometric."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetfab.driver.graph.hetero_data import from_hetero_data
from hetfab.driver.graph.model_inputs import open_model
from hetfab.overlay.errors import OperatorsUnsupportedError, PackageMissingError, RelationMissingError
from hetfab.overlay.model import pytorch
from hetfab.overlay.model.binding import End, JoinedEnd, RelationEnd
from hetfab.overlay.model.schema import Relation
from tests.outside import module
from tests.programs import quantized, reference_logits
from tests.pyg_graphs import lifted, pyg_graph
from tests.random_models import Case
from tests.test_pyg_lifting import LIFTED, REFUSED

HAVE_PYG = all(importlib.util.find_spec(name) for name in ("torch", "torch_geometric"))
live = pytest.mark.skipif(not HAVE_PYG, reason="python: torch_geometric is not installed (examples/pyg says how)")
WRITES, TO = Relation("author", "author_to_paper", "paper"), ("author", "to", "paper")


@pytest.mark.skipif(HAVE_PYG, reason="python: torch_geometric is installed")
def test_without_torch_the_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageMissingError) as caught:
        pytorch.export(None, None, tmp_path / "model.onnx")
    assert caught.value.found.startswith("the Python package 'torch")
    assert "pip install torch torch_geometric" in caught.value.do


@pytest.fixture(scope="module")
def train() -> Any:
    """The example that trains."""
    return module("examples.pyg.train")


@live
@pytest.mark.parametrize("kind", ["sage", "hgt"])
def test_a_trained_model_keeps_its_predictions_on_the_overlay(kind: str, train: Any, tmp_path: Path) -> None:
    data, path = train.generated(), tmp_path / f"{kind}.onnx"
    model = train.trained(data, kind, epochs=20)
    found = pytorch.export(model, data, path)
    graph = from_hetero_data(data, "author")
    expected = model(data.x_dict, data.edge_index_dict).detach().numpy()
    logits = open_model(path, graph).logits()
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    if kind == "hgt":
        assert isinstance(found.bindings["src_into_paper"], JoinedEnd)
    else:
        assert found.bindings["src_author_to_paper"] == RelationEnd(WRITES, End.SOURCE)


@live
def test_a_model_of_one_node_type_is_called_with_stacked_edges(tmp_path: Path) -> None:
    import torch
    from torch_geometric.data import HeteroData
    from torch_geometric.nn import RGCNConv

    torch.manual_seed(0)
    data = HeteroData()
    data["paper"].x = torch.randn(20, 6)
    for name in ("cites", "extends"):
        data["paper", name, "paper"].edge_index = torch.randint(0, 20, (2, 40))
    layer = RGCNConv(6, 3, 2)
    found = pytorch.export(layer, data, tmp_path / "rgcn.onnx", homogeneous=True)
    assert {name for name in found.bindings if name.startswith("src")} == {"src_cites", "src_extends"}
    edges = torch.cat([data["paper", name, "paper"].edge_index for name in ("cites", "extends")], dim=1)
    expected = layer(data["paper"].x, edges, torch.arange(80) // 40).detach().numpy()
    logits = open_model(tmp_path / "rgcn.onnx", from_hetero_data(data, "paper")).logits()
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-5)


@live
def test_models_of_several_node_types_are_not_called_with_stacked_edges(train: Any, tmp_path: Path) -> None:
    data = train.generated()
    with pytest.raises(RelationMissingError, match="the data has 4 node types and 6 edge types"):
        pytorch.export(train.Model(data, "sage"), data, tmp_path / "model.onnx", homogeneous=True)


@live
def test_the_target_of_logits_by_type_is_asked_for(train: Any, tmp_path: Path) -> None:
    data = train.generated()
    model = train.Model(data, "sage")
    model.classify = None
    model.forward = lambda rows, edges: {name: model.project[name](value) for name, value in rows.items()}
    with pytest.raises(RelationMissingError, match=r"the model returns author, paper, .*the target is None"):
        pytorch.export(model, data, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


@live
def test_what_is_not_lifted_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    import torch
    from torch_geometric.data import HeteroData
    from torch_geometric.nn import SAGEConv

    data = HeteroData()
    data["paper"].x = torch.randn(20, 6)
    data["paper", "cites", "paper"].edge_index = torch.randint(0, 20, (2, 40))
    with pytest.raises(OperatorsUnsupportedError, match="it reads the largest of neighbours"):
        pytorch.export(SAGEConv(6, 3, aggr="max"), data, tmp_path / "model.onnx", homogeneous=True)
    assert list(tmp_path.iterdir()) == []


@live
def test_the_zoo_has_a_file_for_each_model() -> None:
    assert set(module("examples.pyg.models").ZOO) == {*LIFTED, *REFUSED}


@live
@pytest.mark.parametrize("name", LIFTED)
def test_both_forms_of_a_model_predict_the_same(name: str, tmp_path: Path) -> None:
    found = module("examples.pyg.export_zoo").export(module("examples.pyg.models").ZOO[name], tmp_path / "model.onnx")
    graph = pyg_graph()
    by_export, by_hand = (quantized(Case(each.model, graph)).model for each in (found, lifted(name)))
    np.testing.assert_array_equal(reference_logits(by_export, graph), reference_logits(by_hand, graph))


@live
def test_the_script_writes_both_forms_and_says_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, own = tmp_path / "raw", tmp_path / "own"
    monkeypatch.setattr(sys, "argv", ["export_zoo", "-o", str(raw), "--hgnn", str(own), "gcn_no_loops", "sage_max"])
    module("examples.pyg.export_zoo").main()
    assert sorted(path.name for path in raw.iterdir()) == ["gcn_no_loops.onnx", "sage_max.onnx"]
    assert [path.name for path in own.iterdir()] == ["gcn_no_loops.onnx"]
    assert "sage_max.onnx: not written, 3 operators not lifted to the domain hgnn:" in capsys.readouterr().out
