# SPDX-License-Identifier: Apache-2.0
"""``hetfab inspect``: a model's inputs, their meaning, its layers, and what hetfab does not execute."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hetfab.cli.output import Result, common_options, print_next, print_table
from hetfab.overlay.errors import counted

if TYPE_CHECKING:
    from hetfab.driver.flows import FlowEstimate
    from hetfab.driver.graph.heterograph import HeteroGraph
    from hetfab.overlay.compiler.model_plan import ModelPlan
    from hetfab.overlay.model.binding import Binding
    from hetfab.overlay.model.bound_model import BoundModel


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--graph", type=click.Path(path_type=Path), help="Graph that completes the meaning of the inputs.")
@click.option("--bind", type=click.Path(path_type=Path), help="JSON file with the meaning of inputs.")
@click.option("--design", type=click.Path(path_type=Path), help="Design to plan for; the PYNQ-Z2 default without it.")
@click.option("--flows", is_flag=True, help="Compare both flows of `hetfab build` on every board (modelled).")
@common_options
def command(model: Path, graph: Path | None, bind: Path | None, design: Path | None, flows: bool) -> Result:
    """Show the layers of MODEL and what its inputs mean."""
    from hetfab.driver.flows import compare_flows
    from hetfab.driver.graph.formats import read_graph
    from hetfab.driver.graph.model_inputs import open_model
    from hetfab.overlay.model.binding import read_bindings
    from hetfab.overlay.model.cnn.inspection import takes_samples
    from hetfab.overlay.model.inspection import inspect_model
    from hetfab.overlay.model.reader import bindings_of, read_model

    if flows and graph is None:
        raise click.UsageError("--flows needs the --graph that runs are timed on.")
    overrides = None if bind is None else read_bindings(bind)
    bindings: Mapping[str, Binding]
    plan: ModelPlan | None = None
    estimates: list[FlowEstimate] = []
    if graph is None:
        read = read_model(model)
        bindings = bindings_of(read, overrides)
        found = inspect_model(read, bindings)
    else:
        table = read_graph(graph)
        opened = open_model(model, table, overrides)
        bindings = opened.bindings
        found = inspect_model(opened.model, bindings)
        if found.quantized and not found.refused and not takes_samples(bindings):
            plan = _plan(opened, table, design)
            estimates = compare_flows(opened, table) if flows else []
    click.echo(f"{model}: opset {found.opset}, {'quantized' if found.quantized else 'float'} model")
    print_table(["input", "shape", "meaning"], [[i.name, i.shape, i.meaning] for i in found.inputs])
    if found.layers:
        click.echo()
        columns = ["layer", "kind", "channels in", "channels out", "weights"]
        rows: list[list[object]] = [[x.name, x.kind, x.inputs, x.channels, x.weights or "-"] for x in found.layers]
        if takes_samples(bindings):
            columns.insert(4, "shape out")
            rows = [[*row[:4], x.shape, *row[4:]] for row, x in zip(rows, found.layers, strict=True)]
        if found.quantized:
            columns += ["bits in", "bits of weights", "bits out"]
            bits = [[x.input_bits, " + ".join(map(str, x.weight_bits or ())) or "-", x.bits] for x in found.layers]
            rows = [[*row, *more] for row, more in zip(rows, bits, strict=True)]
        print_table(columns, rows)
    else:
        click.echo()
        print_table(["operator", "occurs"], sorted(found.operators.items()))
    for headings, lines in [] if plan is None else plan.tables():
        click.echo()
        print_table(headings, lines)
    _print_flows(estimates)
    for name, count in found.tables.items():
        click.echo(f"transductive: the learned table '{name}' fixes the number of nodes of its type to {count:,}")
    if found.refused:
        click.echo(f"\n{counted(len(found.refused), 'operator')} not executed on the overlay:")
        for line in found.refused:
            click.echo(f"  {line}")
    elif not found.quantized:
        source = "--samples SAMPLES" if takes_samples(bindings) else f"--graph {graph or 'GRAPH'}"
        print_next(f"hetfab quantize {model} {source} -o {model.with_suffix('.q.onnx').name}")
    else:
        print_next(f"hetfab compile {model} -o {model.name.removesuffix('.onnx').removesuffix('.q')}.hfp")
    timed = {"flows": [asdict(each) for each in estimates]} if flows else {}
    return asdict(found) | {"plan": None if plan is None else plan.as_dict()} | timed


def _print_flows(estimates: "list[FlowEstimate]") -> None:
    from hetfab.driver.flows import faster

    if not estimates:
        return
    rows = [
        [
            each.board,
            each.flow,
            "-" if each.milliseconds is None else f"{each.milliseconds:.3f} ms",
            "faster" if faster(estimates, each.board) == each.flow else each.reason,
        ]
        for each in estimates
    ]
    click.echo()
    print_table(["board", "flow", "a run, modelled", ""], rows)


def _plan(opened: "BoundModel", graph: "HeteroGraph", design: Path | None) -> "ModelPlan":
    """What `hetfab compile` would choose for a design."""
    from hetfab.driver.graph.facts import graph_facts
    from hetfab.overlay.compiler.compile import suited_design
    from hetfab.overlay.compiler.lowering import lower
    from hetfab.overlay.compiler.model_plan import plan_model
    from hetfab.overlay.design import read_design

    layers = lower(opened.model, opened.bindings)
    return plan_model(
        layers, suited_design(layers) if design is None else read_design(design), graph_facts(graph, layers)
    )
