# SPDX-License-Identifier: Apache-2.0
"""``hetfab graph --semantic`` and ``--workload``: what they show and write, and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest

from hetfab.cli.main import main
from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.driver.graph.npz import write_graph
from hetfab.overlay.model.schema import Relation

PA, AP = Relation("paper", "pa", "author"), Relation("author", "ap", "paper")


def written(folder: Path, papers: int, source: list[int], destination: list[int]) -> Path:
    """Papers and authors, with a relation, its reverse, and the metapaths PAP and PA."""
    ends = np.array(source, np.int32), np.array(destination, np.int32)
    graph = HeteroGraph(
        "tiny",
        None,
        {"paper": papers, "author": 2},
        {PA: Edges(*ends), AP: Edges(ends[1], ends[0])},
        metapaths={"PAP": ("pa", "ap"), "PA": ("pa",)},
    )
    write_graph(path := folder / "tiny.npz", graph)
    return path


def test_sizes_degrees_plan_and_workload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Papers 0 and 1 share author 1, one edge is there twice, paper 2 has no author."""
    path = written(tmp_path, 3, [0, 0, 0, 1], [0, 1, 1, 1])
    file = tmp_path / "workload.json"
    assert main(["graph", str(path), "--workload", str(file), "--json"]) == 0
    out, shown = capsys.readouterr()
    found = json.loads(out)["workload"]
    assert json.loads(file.read_text("utf-8")) == found
    assert (found["format"], found["name"]) == ("hetfab-workload/2", "tiny")
    pap, pa = found["semantic_graphs"]
    assert (pap["edges"], pap["self_loops"], pa["edges"], pa["self_loops"]) == (4, 2, 3, 0)
    assert pap["out"] == pap["into"] == {"mean_degree": pytest.approx(4 / 3), "max_degree": 2, "without_edges": 1}
    assert found["steps"] == [{"action": "compose", "builds": ["pa", "ap"], "reads": [["pa"], ["ap"]], "expansions": 5}]
    assert found["expansions"] == 5
    assert "5 expansions, 0.0 MiB of graphs at once" in shown
    assert f"workload in {file}" in shown


def test_nothing_is_built_unless_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", str(written(tmp_path, 3, [0], [0])), "--json"]) == 0
    assert "workload" not in json.loads(capsys.readouterr().out)


def test_more_memory_than_stated_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, 1200, list(range(1200)), [0] * 1200)
    assert main(["graph", str(path), "--semantic", "--memory-mib", "1", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "limit-exceeded"
    assert error["found"].startswith("the semantic graph 'PAP' is estimated at ")
    assert error["expected"] == "at most 1,048,576 bytes, the stated limit of memory"
    assert main(["graph", str(path), "--semantic", "--memory-mib", "8", "--json"]) == 0
