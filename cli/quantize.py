# SPDX-License-Identifier: Apache-2.0
"""``hetfab quantize``: a float model and a graph in, an integer model out."""

from pathlib import Path
from typing import BinaryIO

import click

from hetfab.cli.output import Result, common_options, print_next, print_table, progress
from hetfab.overlay.errors import counted


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--graph", required=True, type=click.Path(path_type=Path), help="Graph to calibrate with.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The quantized model.")
@click.option("--bind", type=click.Path(path_type=Path), help="JSON file with the meaning of inputs.")
@common_options
def command(model: Path, graph: Path, output: Path, bind: Path | None) -> Result:
    """Quantize MODEL to 8-bit weights and activations.

    Candidates are compared with the float model on the graph's validation nodes, or on all where there are none.
    """
    from hetfab.driver.graph.formats import graph_files, read_graph
    from hetfab.driver.graph.model_inputs import open_model
    from hetfab.overlay.files import check_outputs, write_atomic
    from hetfab.overlay.model.binding import read_bindings
    from hetfab.quantize.post_training import quantize
    from hetfab.quantize.ranges import CRITERIA

    check_outputs({"--output": output}, {"MODEL": model, "--graph": graph_files(graph), "--bind": bind})
    opened = open_model(model, read_graph(graph), None if bind is None else read_bindings(bind))
    with progress("quantize", len(CRITERIA) + 1) as advance:
        result = quantize(opened, progress=lambda step: advance(1))

    def write(file: BinaryIO) -> None:
        file.write(result.model.SerializeToString(deterministic=True))

    write_atomic(output, write)
    table = [[n, d, "kept" if n == result.criterion else ""] for n, d in result.divergences.items()]
    print_table(["calibration", "KL from the float model", ""], table)
    tensors = counted(len(result.ranges), "tensor")
    click.echo(f"{tensors} in 8 bits, weights in 8 bits with a scale per output channel")
    print_next(f"hetfab compile {output} --graph {graph} -o {output.name.removesuffix('.onnx').removesuffix('.q')}.hfp")
    return {
        "output": str(output),
        "criterion": result.criterion,
        "divergences": dict(result.divergences),
        "ranges": {
            name: {"bits": r.bits, "signed": r.signed, "exponent": r.exponent} for name, r in result.ranges.items()
        },
    }
