# SPDX-License-Identifier: Apache-2.0
"""Runs a program on a board and prints its predictions: pynq, numpy and hetfab's driver, nothing else.

    python predict.py OVERLAY PROGRAM GRAPH

OVERLAY is the path or name of an overlay package, PROGRAM a ``.hfp`` file, GRAPH a graph file. Without a board,
``HETFAB_DEVICE=emulated`` runs the same text on the emulated device.
"""

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt
import pynq

from hetfab.driver.overlay import HetfabOverlay


def vertices_per_class(predictions: npt.NDArray[Any], classes: int) -> list[int]:
    """How many vertices have each class; a vertex may have several where each class is a decision of its own."""
    several = predictions.ndim == 2
    return list(predictions.sum(axis=0) if several else np.bincount(predictions, minlength=classes))


def main() -> None:
    """Predicts the classes of the graph's target vertices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overlay", help="path or name of an overlay package")
    parser.add_argument("program", help="program file (.hfp)")
    parser.add_argument("graph", help="graph file (.npz)")
    parser.add_argument("--repeats", type=int, default=10, help="inferences to time (default 10)")
    arguments = parser.parse_args()
    with HetfabOverlay(arguments.overlay, arguments.program) as overlay:
        print(f"{overlay.package.name} on {pynq.Device.active_device.name}, {pynq.Clocks.fclk0_mhz:g} MHz")
        found = overlay.predict(arguments.graph)
        for number, count in enumerate(vertices_per_class(found.predictions, found.logits.shape[1])):
            print(f"class {number}: {count} of {len(found.predictions)} vertices of type '{found.node_type}'")
        if found.scores is not None:
            print(f"micro F1 {found.scores.micro:.4f}, macro F1 {found.scores.macro:.4f} ({found.scores.part})")
        times = overlay.throughput_test(arguments.repeats)
        print(f"{1e3 * times.median_seconds:.2f} ms per inference (host time, overlay: {times.kind.value})")


if __name__ == "__main__":
    main()
