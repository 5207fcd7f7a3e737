# SPDX-License-Identifier: Apache-2.0
"""``hetfab lift``: a model as PyTorch Geometric exports it in, one of hetfab's graph operators out."""

from collections import Counter
from pathlib import Path
from typing import BinaryIO

import click

from hetfab.cli.output import Result, common_options, print_next, print_table
from hetfab.overlay.errors import counted


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The lifted model.")
@click.option("--bind", type=click.Path(path_type=Path), help="JSON file with the meaning of MODEL's inputs.")
@common_options
def command(model: Path, output: Path, bind: Path | None) -> Result:
    """Turn the gathers and scatters of MODEL into graph operators of the domain hgnn.

    The lifted model is compared with MODEL in onnxruntime, on random graphs.
    """
    from hetfab.overlay.files import check_outputs, write_atomic
    from hetfab.overlay.model.lifting.lift import lift
    from hetfab.overlay.model.lifting.raw_inputs import raw_inputs, read_raw_inputs
    from hetfab.overlay.model.meaning import meaning
    from hetfab.overlay.model.parser import try_layers
    from hetfab.overlay.model.reader import read_model

    check_outputs({"--output": output}, {"MODEL": model, "--bind": bind})
    read = read_model(model)
    found = lift(read, raw_inputs(read, None if bind is None else read_raw_inputs(bind)))

    def write(file: BinaryIO) -> None:
        file.write(found.model.SerializeToString(deterministic=True))

    write_atomic(output, write)
    operators = Counter(f"{node.domain}::{node.op_type}".removeprefix("::") for node in found.model.graph.node)
    print_table(["operator", "occurs"], sorted(operators.items()))
    click.echo()
    print_table(["input", "meaning"], [[name, meaning(binding)] for name, binding in found.bindings.items()])
    click.echo(
        f"\n{counted(found.nodes_before, 'operator')} became {len(found.model.graph.node)}; on {found.graphs} random "
        f"graphs both models differ by at most {found.largest_difference:.1e} of the largest output"
    )
    refused = try_layers(found.model).refused
    if refused:
        click.echo(f"\n{counted(len(refused), 'operator')} not executed on the overlay:")
        for line in refused:
            click.echo(f"  {line}")
    print_next(
        f"hetfab inspect {output} --graph GRAPH"
        if refused
        else f"hetfab quantize {output} --graph GRAPH -o {output.stem}.q.onnx"
    )
    return {
        "output": str(output),
        "operators_before": found.nodes_before,
        "operators": dict(sorted(operators.items())),
        "inputs": {name: meaning(binding) for name, binding in found.bindings.items()},
        "graphs": found.graphs,
        "largest_difference": found.largest_difference,
        "refused": list(refused),
    }
