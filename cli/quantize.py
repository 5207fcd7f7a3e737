# SPDX-License-Identifier: Apache-2.0
"""``hetfab quantize``: a float model and a graph, or samples, in, an integer model out."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from hetfab.cli.automatic_bits import Report, check_asked, graph_subject, quantize_automatically, sample_subject
from hetfab.cli.fallback import fallback_option
from hetfab.cli.output import Result, common_options, print_next, print_table, progress
from hetfab.cli.workers import AskedWorkers, workers_options
from hetfab.overlay.errors import counted
from hetfab.overlay.host_nodes import Fallback
from hetfab.quantize.widths import OFFERED, Widths

if TYPE_CHECKING:
    import onnx

    from hetfab.cli.automatic_bits import Files
    from hetfab.quantize.ranges import ActivationRange

AUTO = "auto"


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--graph", type=click.Path(path_type=Path), help="Graph to calibrate with.")
@click.option("--samples", type=click.Path(path_type=Path), help="Samples to calibrate a network without a graph with.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The quantized model.")
@click.option(
    "--bits",
    type=click.Choice([*OFFERED, AUTO]),
    default=next(iter(OFFERED)),
    show_default=True,
    help="Bits of weights and of activations; 1-bit weights are -1 or +1; auto chooses them for each layer.",
)
@click.option("--max-drop", type=click.FloatRange(min=0), metavar="POINTS", help="Most points of accuracy to lose.")
@click.option("--latency", type=click.FloatRange(min=0, min_open=True), metavar="MS", help="Longest modelled time.")
@click.option(
    "--design", type=click.Path(path_type=Path), help="Design to time on; the one that compile takes if none."
)
@click.option("--picture", type=click.Path(path_type=Path), help="Draw widths and the curve (.svg, .png or .pdf).")
@click.option("--first-last", type=click.Choice(list(OFFERED)), help="The same of first and last layers on samples.")
@click.option("--bind", type=click.Path(path_type=Path), help="JSON file with the meaning of inputs.")
@fallback_option
@workers_options
@common_options
def command(
    model: Path,
    graph: Path | None,
    samples: Path | None,
    output: Path,
    bits: str,
    max_drop: float | None,
    latency: float | None,
    design: Path | None,
    picture: Path | None,
    first_last: str | None,
    bind: Path | None,
    fallback: Fallback,
    workers: AskedWorkers,
) -> Result:
    """Quantize MODEL to integer weights and activations.

    Candidates are compared with the float model on the graph's validation nodes, or on all where there are none; with
    --samples, on all samples.
    """
    if (graph is None) == (samples is None):
        raise click.UsageError("Give either --graph or --samples to calibrate with.")
    if graph is not None and first_last is not None:
        raise click.UsageError("--first-last is for networks on samples.")
    report = Report(latency, max_drop, design, picture)
    if design is not None and bits != AUTO and not report.asks:
        raise click.UsageError("--design is for --bits auto, --latency, --max-drop or --picture.")
    if fallback is Fallback.HOST and (graph is None or bits == AUTO or report.asks):
        raise click.UsageError("--fallback host goes with --graph and fixed --bits: the host's time is not modelled.")
    if workers.several and bits != AUTO:
        raise click.UsageError("--workers and --cluster are for --bits auto.")
    if graph is not None:
        return _on_graph(model, graph, output, OFFERED.get(bits), bind, report, fallback, workers)
    assert samples is not None
    if bits == AUTO and first_last is not None:
        raise click.UsageError("With --bits auto first and last layers get widths as all others do.")
    edges = OFFERED.get(first_last or bits)
    return _on_samples(model, samples, output, OFFERED.get(bits), edges, bind, report, workers)


def _on_graph(
    model: Path,
    graph: Path,
    output: Path,
    widths: Widths | None,
    bind: Path | None,
    report: Report,
    fallback: Fallback,
    workers: AskedWorkers,
) -> Result:
    """``widths`` is None where they are chosen."""
    from hetfab.driver.graph.formats import graph_files, read_graph
    from hetfab.driver.graph.model_inputs import open_model, with_hops
    from hetfab.driver.scores import model_scores
    from hetfab.overlay.files import check_outputs
    from hetfab.overlay.model.binding import read_bindings
    from hetfab.quantize.post_training import quantize

    check_outputs(
        {"--output": output, "--picture": report.picture},
        {"MODEL": model, "--graph": graph_files(graph), "--bind": bind, "--design": report.design},
    )
    design = report.read_design()
    read = read_graph(graph)
    opened = open_model(model, read, None if bind is None else read_bindings(bind))
    if widths is None:
        with _files(model, graph, bind, workers) as files:
            found = quantize_automatically(graph_subject(opened, read, design), report, output, _write, files)
        _print_compile(output, graph)
        return found
    with progress("quantize") as advance:
        result = quantize(
            with_hops(opened, read, fallback),
            widths=widths,
            search=True,
            fallback=fallback,
            progress=lambda step: advance(1),
        )
        scores = {}
        for name, scored in (("float", opened), ("quantized", result)):
            scores[name] = model_scores(scored, read)
            advance(1)
    asked: dict[str, float | None] = {"modelled_ms": None, "drop": None}
    if report.asks:
        subject = replace(graph_subject(opened, read, design), study=result.study)
        asked = check_asked(result.model, result.assignment, result.divergences[result.criterion], subject, report)
    _write(output, result.model)
    _print_criteria(result.divergences, result.criterion)
    rows = [[f"{name} model", s.micro, s.macro, f"{s.part} nodes"] for name, s in scores.items() if s is not None]
    if rows:
        print_table(["in onnxruntime", "micro F1", "macro F1", "of"], rows)
    of_tensors = _listed(chosen.bits for chosen in result.ranges.values())
    of_weights = _listed(bits for choice in result.assignment.weights.values() for bits in choice.kinds)
    click.echo(
        f"{counted(len(result.ranges), 'tensor')} in {of_tensors}, weights in {of_weights} with a scale per output "
        "channel"
    )
    _print_compile(output, graph, fallback)
    return {
        "output": str(output),
        "bits": str(widths),
        "criterion": result.criterion,
        "divergences": dict(result.divergences),
        **{f"{name}_micro_f1": None if score is None else score.micro for name, score in scores.items()},
        **{f"{name}_macro_f1": None if score is None else score.macro for name, score in scores.items()},
        "ranges": _ranges(result.ranges),
        **asked,
    }


def _on_samples(
    model: Path,
    samples: Path,
    output: Path,
    widths: Widths | None,
    edges: Widths | None,
    bind: Path | None,
    report: Report,
    workers: AskedWorkers,
) -> Result:
    """``widths`` is None where they are chosen."""
    from hetfab.driver.samples import accuracy, open_with_samples
    from hetfab.overlay.files import check_outputs
    from hetfab.overlay.model.binding import read_bindings
    from hetfab.quantize.cnn.post_training import quantize_cnn
    from hetfab.quantize.methods import CRITERIA

    check_outputs(
        {"--output": output, "--picture": report.picture},
        {"MODEL": model, "--samples": samples, "--bind": bind, "--design": report.design},
    )
    design = report.read_design()
    opened, read = open_with_samples(model, samples, None if bind is None else read_bindings(bind))
    if widths is None:
        with _files(model, samples, bind, workers) as files:
            found = quantize_automatically(sample_subject(opened, read, design), report, output, _write, files)
        print_next(f"hetfab inspect {output}")
        return found
    with progress("quantize", len(CRITERIA) + 3) as advance:
        result = quantize_cnn(opened, widths=widths, edges=edges, progress=lambda step: advance(1))
        scores = {}
        for name, scored in (("float", opened.model), ("quantized", result.model)):
            scores[name] = accuracy(scored, read)
            advance(1)
    asked: dict[str, float | None] = {"modelled_ms": None, "drop": None}
    if report.asks:
        subject = sample_subject(opened, read, design)
        assignment = subject.study.with_edges(result.widths, result.edges, result.criterion)
        asked = check_asked(result.model, assignment, min(result.divergences.values()), subject, report)
    _write(output, result.model)
    _print_criteria(result.divergences, result.criterion)
    rows = [[f"{name} model", share] for name, share in scores.items() if share is not None]
    if rows:
        print_table(["in onnxruntime", "right of the samples"], rows)
    click.echo(
        f"{counted(len(result.ranges), 'tensor')}; inner layers {result.widths}, first and last layers {result.edges}"
    )
    for name in result.may_round:
        click.echo(f"onnxruntime may round sums of '{name}', which float32 need not hold; the overlay does not")
    print_next(f"hetfab inspect {output}")
    return {
        "output": str(output),
        "bits": str(result.widths),
        "first_last": str(result.edges),
        "criterion": result.criterion,
        "divergences": dict(result.divergences),
        **{f"{name}_accuracy": share for name, share in scores.items()},
        "may_round": list(result.may_round),
        "ranges": _ranges(result.ranges),
        **asked,
    }


@contextmanager
def _files(model: Path, workload: Path, bind: Path | None, workers: AskedWorkers) -> "Iterator[Files | None]":
    """What other processes open; None where none evaluate."""
    if not workers.several:
        yield None
        return
    from hetfab.cli.automatic_bits import Files
    from hetfab.cli.search_jobs import Source

    with workers.open() as evaluators:
        # Workers of a cluster have another working directory.
        yield Files(
            Source(model.absolute(), workload.absolute(), bind and bind.absolute(), evaluators.folder), evaluators
        )


def _print_compile(output: Path, graph: Path, fallback: Fallback = Fallback.NONE) -> None:
    program = f"{output.name.removesuffix('.onnx').removesuffix('.q')}.hfp"
    host = " --fallback host" if fallback is Fallback.HOST else ""
    print_next(f"hetfab compile {output} --graph {graph} -o {program}{host}")


def _write(output: Path, model: "onnx.ModelProto") -> None:
    from hetfab.overlay.files import write_atomic

    def write(file: BinaryIO) -> None:
        file.write(model.SerializeToString(deterministic=True))

    write_atomic(output, write)


def _print_criteria(divergences: Mapping[str, float], kept: str) -> None:
    table = [[name, divergence, "kept" if name == kept else ""] for name, divergence in divergences.items()]
    print_table(["calibration", "KL from the float model", ""], table)


def _listed(widths: Iterable[int]) -> str:
    """Widths from the narrowest: ``4 and 8 bits``."""
    found = sorted(set(widths))
    *others, last = map(str, found)
    return (f"{', '.join(others)} and {last} bits") if others else counted(found[0], "bit")


def _ranges(ranges: "Mapping[str, ActivationRange]") -> dict[str, dict[str, int | bool]]:
    return {name: {"bits": r.bits, "signed": r.signed, "exponent": r.exponent} for name, r in ranges.items()}
