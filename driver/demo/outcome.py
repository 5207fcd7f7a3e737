# SPDX-License-Identifier: Apache-2.0
"""What the demo shows at its end: the three executions side by side, and the page of the run."""

from dataclasses import dataclass
from pathlib import Path

from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.model_inputs import open_model
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.page.run_page import Accuracy, write_page
from hetfab.driver.report import open_reference, report, time_run
from hetfab.driver.scores import f1_scores
from hetfab.driver.session import Session
from hetfab.overlay.bind import bind
from hetfab.overlay.errors import LabelsMissingError
from hetfab.overlay.program import read_program


@dataclass(frozen=True)
class DemoFiles:
    """Files that the demo's commands made."""

    graph: Path
    model: Path
    quantized: Path
    program: Path


@dataclass(frozen=True)
class Outcome:
    """Test scores of each execution, instructions, and the overlay against onnxruntime on the quantized model."""

    accuracy: tuple[Accuracy, ...]
    instructions: int
    agreement: float
    max_logit_lsb: float


def finish(files: DemoFiles, page: Path) -> Outcome:
    """Runs the three executions and writes the page.

    Args:
        files: What the demo's commands made.
        page: The HTML file.

    Raises:
        LabelsMissingError: The graph has no labels.
        OutputUnwritableError: The page cannot be written.
    """
    graph, program = read_graph(files.graph), read_program(files.program)
    bound = bind(program, graph_arrays(program, graph))
    with EmulatedTransport(program.design) as transport:
        result = Session(transport, program.design).run(bound)
    found = report(result, bound, graph, open_reference(files.quantized, program, graph))
    scores = f1_scores(graph, graph.target or "", open_model(files.model, graph).logits())
    if scores is None:
        raise LabelsMissingError("the graph has no labels", "labels of its target", "use the generated graph")
    accuracy = (
        Accuracy("float model", "onnxruntime", scores.micro, scores.macro),
        Accuracy("quantized model, W8A8", "onnxruntime", found["reference_micro_f1"], found["reference_macro_f1"]),
        Accuracy("program", "emulated overlay", found["micro_f1"], found["macro_f1"]),
    )
    timeline = time_run(result, bound, program.design).board
    write_page(page, "A small RGCN on a generated academic graph", result, bound, timeline, accuracy)
    return Outcome(accuracy, result.instructions, found["agreement"], found["max_logit_lsb"])
