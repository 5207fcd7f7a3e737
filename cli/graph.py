# SPDX-License-Identifier: Apache-2.0
"""``hetfab graph``: what a graph holds, whether a model finds what it reads, a copy as npz, and a picture."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hetfab.cli.output import Result, common_options, print_next, print_table
from hetfab.overlay.errors import counted

if TYPE_CHECKING:
    from hetfab.driver.graph.orders import GraphOrder
    from hetfab.driver.graph.profile import GraphProfile
    from hetfab.driver.graph.summary import GraphSummary, TypeSummary


@click.command()
@click.argument("graph", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), help="Model to look up what it reads.")
@click.option("--bind", type=click.Path(path_type=Path), help="JSON file with the meaning of the model's inputs.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the graph to this file (.npz).")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw types and relations (.svg, .png or .pdf).")
@click.option("--semantic", is_flag=True, help="Plan and build the semantic graphs of the metapaths.")
@click.option("--workload", type=click.Path(path_type=Path), help="Write counts and degrees to this file (.json).")
@click.option(
    "--memory-mib",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Largest memory of semantic graphs at once; more is refused before it is built.",
)
@click.option("--orders", type=click.IntRange(min=1), metavar="PASSES", help="Choose orders of edges for such a use.")
@click.option("--vector-bytes", type=click.IntRange(min=1), default=64, show_default=True, help="With --orders.")
@click.option("--design", type=click.Path(path_type=Path), help="With --orders; a default for the PYNQ-Z2 without it.")
@common_options
def command(
    graph: Path,
    model: Path | None,
    bind: Path | None,
    output: Path | None,
    picture: Path | None,
    semantic: bool,
    workload: Path | None,
    memory_mib: int,
    orders: int | None,
    vector_bytes: int,
    design: Path | None,
) -> Result:
    """Show what GRAPH holds: an npz file, a folder of CSV files or an HGB folder."""
    from hetfab.driver.graph.formats import graph_files, read_graph
    from hetfab.driver.graph.npz import write_graph
    from hetfab.driver.graph.summary import summarise
    from hetfab.overlay.files import check_outputs

    if bind is not None and model is None:
        raise click.UsageError("--bind says what a model's inputs mean: give the model with --model")
    if design is not None and orders is None:
        raise click.UsageError("--design says for what orders are chosen: give the number of passes with --orders")
    reads = {"GRAPH": graph_files(graph), "--model": model, "--bind": bind, "--design": design}
    check_outputs({"--output": output, "--picture": picture, "--workload": workload}, reads)
    if picture is not None:
        from hetfab.driver.graph.picture import check_picture

        check_picture(picture)
    opened = read_graph(graph)
    found = summarise(opened)
    _print_graph(graph, found)
    result = asdict(found)
    if semantic or workload is not None:
        from hetfab.driver.graph.profile import profile, write_profile

        profiled = profile(opened, limit_bytes=memory_mib << 20)
        _print_semantic(profiled)
        result["workload"] = asdict(profiled)
        if workload is not None:
            write_profile(workload, profiled)
            click.echo(f"workload in {workload}")
    if orders is not None:
        from hetfab.driver.graph.orders import choose_orders
        from hetfab.overlay.design import default_design, read_design

        chosen = default_design() if design is None else read_design(design)
        ordered = choose_orders(opened, chosen, vector_bytes, orders, memory_mib << 20)
        _print_orders(ordered, orders)
        result["orders"] = [asdict(each) for each in ordered]
    if model is not None:
        from hetfab.driver.graph.fit import find_inputs
        from hetfab.overlay.model.binding import read_bindings
        from hetfab.overlay.model.reader import read_model

        findings = find_inputs(read_model(model), opened, None if bind is None else read_bindings(bind))
        click.echo()
        print_table(
            ["input", "meaning", "in this graph"], [[f.input, f.meaning, f.problem or "found"] for f in findings]
        )
        missed = sum(f.problem is not None for f in findings)
        fit = f"does not fit this graph: {missed} of {counted(len(findings), 'line')}" if missed else "fits this graph"
        click.echo(f"{model} {fit}")
        result["model"] = [asdict(f) for f in findings]
    if output is not None:
        write_graph(output, opened)
        click.echo(f"graph in {output}")
    if picture is not None:
        from hetfab.driver.graph.picture import draw

        draw(found, picture)
        click.echo(f"picture in {picture}")
    print_next(f"hetfab inspect {model or 'MODEL'} --graph {output or graph}")
    return result


def _print_graph(path: Path, found: "GraphSummary") -> None:
    nodes, edges = sum(t.count for t in found.node_types), sum(r.edges for r in found.relations)
    sizes = f"{counted(nodes, 'node')}, {counted(edges, 'edge')}"
    click.echo(f"{path}: '{found.name}', {sizes}, target {found.target or 'none'}\n")
    print_table(
        ["node type", "nodes", "features", "width", "not zero", "classes", "labelled", "train", "val", "test"],
        [
            [t.name, t.count, t.features or "-", t.width or "-", t.nonzeros if t.features else "-", _classes(t)]
            + [t.labelled if t.labels else "-"]
            + [t.splits.get(part, "-") for part in ("train", "val", "test")]
            for t in found.node_types
        ],
    )
    click.echo()
    ends = [f"{end} {what}" for end in ("out", "in") for what in ("mean", "max", "none")]
    columns = ["relation", "from", "to", "edges", "repeated", *ends]
    print_table(
        columns,
        [
            [r.name, r.source, r.destination, r.edges, r.duplicates]
            + [value for end in (r.out, r.into) for value in (end.mean_degree, end.max_degree, end.without_edges)]
            for r in found.relations
        ],
    )
    if found.metapaths:
        click.echo()
        print_table(["metapath", "relations"], [[name, ", ".join(path)] for name, path in found.metapaths.items()])


def _print_semantic(found: "GraphProfile") -> None:
    click.echo()
    ends = [f"{end} {what}" for end in ("out", "in") for what in ("mean", "max", "none")]
    print_table(
        ["semantic graph", "edges", "estimated", "self loops", *ends],
        [
            [s.name, s.edges, s.estimated_edges, s.self_loops]
            + [value for end in (s.out, s.into) for value in (end.mean_degree, end.max_degree, end.without_edges)]
            for s in found.semantic_graphs
        ],
    )
    click.echo()
    print_table(
        ["step", "builds", "from", "expansions"],
        [[s.action, ", ".join(s.builds), "; ".join(", ".join(p) for p in s.reads), s.expansions] for s in found.steps],
    )
    mib = found.peak_bytes / (1 << 20)
    click.echo(f"{counted(found.expansions, 'expansion')}, {mib:.1f} MiB of graphs at once")


def _print_orders(found: "list[GraphOrder]", passes: int) -> None:
    click.echo()
    print_table(
        ["semantic graph", "edges", "order", "bytes as is", "ordered", "found by", "in ms", f"{passes:,} times"],
        [
            [o.graph, o.edges, o.order, o.as_is_bytes, o.pass_bytes, o.found_by, o.cost_ms, f"{100 * o.share:.0f} %"]
            for o in found
        ],
    )
    click.echo(
        "traffic of a pass through a small buffer (docs/restructuring.md); the last column is what all passes and the"
    )
    click.echo("time to find the order move, of what the graph as it is moves; times are modelled")


def _classes(node_type: "TypeSummary") -> object:
    if node_type.labels is None:
        return "-"
    kind = " labels" if node_type.labels == "multilabel" else ""
    names = ", ".join(node_type.class_names)
    return f"{node_type.classes}{kind}" + (f": {names}" if names else "")
