# SPDX-License-Identifier: Apache-2.0
"""``hetfab quantize``: a float model and a graph in, an integer model out."""

from pathlib import Path
from typing import BinaryIO

import click

from hetfab.cli.output import Result, common_options, print_next, print_table, progress
from hetfab.overlay.errors import counted
from hetfab.quantize.widths import OFFERED


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--graph", required=True, type=click.Path(path_type=Path), help="Graph to calibrate with.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The quantized model.")
@click.option(
    "--bits",
    type=click.Choice(list(OFFERED)),
    default=next(iter(OFFERED)),
    show_default=True,
    help="Bits of weights and of activations; 1-bit weights are -1 or +1.",
)
@click.option("--bind", type=click.Path(path_type=Path), help="JSON file with the meaning of inputs.")
@common_options
def command(model: Path, graph: Path, output: Path, bits: str, bind: Path | None) -> Result:
    """Quantize MODEL to integer weights and activations.

    Candidates are compared with the float model on the graph's validation nodes, or on all where there are none.
    """
    from hetfab.driver.graph.formats import graph_files, read_graph
    from hetfab.driver.graph.model_inputs import open_model
    from hetfab.driver.scores import model_scores
    from hetfab.overlay.files import check_outputs, write_atomic
    from hetfab.overlay.model.binding import read_bindings
    from hetfab.quantize.post_training import quantize
    from hetfab.quantize.ranges import CRITERIA

    check_outputs({"--output": output}, {"MODEL": model, "--graph": graph_files(graph), "--bind": bind})
    read = read_graph(graph)
    opened = open_model(model, read, None if bind is None else read_bindings(bind))
    with progress("quantize", len(CRITERIA) + 3) as advance:
        result = quantize(opened, widths=OFFERED[bits], progress=lambda step: advance(1))
        scores = {}
        for name, scored in (("float", opened), ("quantized", result)):
            scores[name] = model_scores(scored, read)
            advance(1)

    def write(file: BinaryIO) -> None:
        file.write(result.model.SerializeToString(deterministic=True))

    write_atomic(output, write)
    table = [[n, d, "kept" if n == result.criterion else ""] for n, d in result.divergences.items()]
    print_table(["calibration", "KL from the float model", ""], table)
    rows = [[f"{name} model", s.micro, s.macro, f"{s.part} nodes"] for name, s in scores.items() if s is not None]
    if rows:
        print_table(["in onnxruntime", "micro F1", "macro F1", "of"], rows)
    click.echo(
        f"{counted(len(result.ranges), 'tensor')} in {result.widths.activations} bits, weights in "
        f"{counted(result.widths.weights, 'bit')} with a scale per output channel"
    )
    print_next(f"hetfab compile {output} --graph {graph} -o {output.name.removesuffix('.onnx').removesuffix('.q')}.hfp")
    return {
        "output": str(output),
        "bits": str(result.widths),
        "criterion": result.criterion,
        "divergences": dict(result.divergences),
        **{f"{name}_micro_f1": None if score is None else score.micro for name, score in scores.items()},
        **{f"{name}_macro_f1": None if score is None else score.macro for name, score in scores.items()},
        "ranges": {
            name: {"bits": r.bits, "signed": r.signed, "exponent": r.exponent} for name, r in result.ranges.items()
        },
    }
