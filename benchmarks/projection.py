# SPDX-License-Identifier: Apache-2.0
"""First projections of the RGCNs as dense products, by non-zeros, and as chosen: products, additions, bytes, time.

Each program runs on the emulated overlay: counts are those of its run log, and all forms give the same logits. Times
are modelled, of the whole model on the board of the default design.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import Report, argument_parser, publish
from benchmarks.workloads import Workload, workloads
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.session import Session
from hetfab.overlay.compiler.first_projection import FirstProjection
from hetfab.overlay.costs.program_cost import additions
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate

_HEADINGS = ["model", "form", "sparse layers", "GEMM MACs", "AGG additions", "DRAM bytes", "modelled ms"]


@dataclass(frozen=True, eq=False)
class Form:
    """A model in one form, and what its run log says."""

    sparse_layers: int
    macs: int
    additions: int
    bytes: int
    modelled_milliseconds: float
    logits: npt.NDArray[np.int32]


def main() -> None:
    """Prints the table and the JSON line."""
    arguments = argument_parser(__doc__).parse_args()
    rows: list[list[object]] = []
    values: dict[str, Any] = {"modelled": True}
    for workload in workloads():
        forms = {asked.value: run(workload, default_design(), asked) for asked in FirstProjection}
        for name, form in forms.items():
            counts = {key: value for key, value in vars(form).items() if key != "logits"}
            rows.append([workload.name, name, *counts.values()])
            values |= {f"{workload.name}_{name}_{key}": value for key, value in counts.items()}
        same = all(np.array_equal(form.logits, forms["dense"].logits) for form in forms.values())
        values[f"{workload.name}_same_logits"] = same
    publish(Report("counts of the run log; milliseconds modelled", _HEADINGS, rows, values), arguments.as_json)


def run(workload: Workload, design: Design, asked: FirstProjection) -> Form:
    """Runs a workload on the emulated overlay.

    Args:
        workload: A model and its graph.
        design: What to compile for.
        asked: The form of its first projections.
    """
    bound = workload.bound(design, asked=asked)
    with EmulatedTransport(design) as transport:
        result = Session(transport, design).run(bound)
    log = result.run_log
    if log is None:
        raise RuntimeError("the emulated overlay keeps a run log")
    return Form(
        sparse_layers=sum(layer.gathered for layer in bound.program.layers),
        macs=int(log["macs"].sum()),
        additions=additions(bound.words, log, design.geometry),
        bytes=int(log["read_bytes"].sum() + log["write_bytes"].sum()),
        modelled_milliseconds=simulate(bound.words, log, machine(design)).milliseconds,
        logits=result.logits,
    )


if __name__ == "__main__":
    main()
