# SPDX-License-Identifier: Apache-2.0
"""The nodes that a user asks for, by number or by name, and the file of fusion weights that they may need."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay.archives import DAMAGE, ArrayArchive
from hetfab.overlay.errors import (
    FusionInvalidError,
    NodesOptionsError,
    NodesUnknownError,
    counted,
    why_unreadable,
)
from hetfab.overlay.files import write_atomic
from hetfab.overlay.isa.attention import LOGIT_BITS
from hetfab.overlay.program import Program

Ids: TypeAlias = npt.NDArray[np.int64]
FusionWeights: TypeAlias = Mapping[str, npt.NDArray[np.int64]]
_SHOWN = 5


def checked_nodes(nodes: npt.ArrayLike, graph: HeteroGraph, node_type: str) -> Ids:
    """Numbers of nodes of a type, int64 [n].

    Raises:
        NodesUnknownError: They are no whole numbers, or outside of the type.
    """
    try:
        given = np.asarray(nodes)
    except (ValueError, OverflowError):
        given = np.zeros((0, 0), np.object_)  # Lists of several lengths.
    count = graph.counts[node_type]
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise NodesUnknownError(
            f"nodes as {given.dtype} {list(given.shape)}", "whole numbers [n]", "give a list of numbers of nodes"
        )
    wrong = given[(given < 0) | (given >= count)] if given.size else given
    if wrong.size:
        raise NodesUnknownError(
            f"there is no node {', '.join(map(str, wrong[:_SHOWN]))} of type '{node_type}' in the graph '{graph.name}'",
            (f"numbers from 0 to {count - 1}" if count else "no number")
            + f", as the type has {counted(count, 'node')}",
            "correct the numbers",
        )
    return given.astype(np.int64)


def checked_batch(batch: int | None) -> int | None:
    """How many nodes to predict at once.

    Raises:
        NodesOptionsError: It is no whole number above 0.
    """
    whole = isinstance(batch, int | np.integer) and not isinstance(batch, bool)
    if batch is not None and not (whole and batch > 0):
        raise NodesOptionsError(
            f"a batch of {batch!r}", "a whole number of nodes above 0", "correct it, or leave it out for all at once"
        )
    return batch


def check_only_with_nodes(**options: object) -> None:
    """Refuses options that say something of some nodes where all are predicted.

    Raises:
        NodesOptionsError: One is given; all are named.
    """
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise NodesOptionsError(
            f"{' and '.join(given)} without nodes", "nodes, or neither batch nor fusion", "say which nodes to predict"
        )


def read_nodes(given: str, graph: HeteroGraph, node_type: str) -> Ids:
    """The nodes of a list, or of a file with one node in each line.

    Args:
        given: A path, or numbers or names with commas between them.
        graph: Where nodes have names, these can be given.
        node_type: The type that is predicted.

    Raises:
        NodesUnknownError: The file cannot be read, or a node is not in the graph.
    """
    path = Path(given)
    if _is_file(path):
        try:
            words = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise NodesUnknownError(
                f"cannot read the nodes '{path}': {why_unreadable(error)}", "a node in each line", "check the file"
            ) from error
    else:
        words = given.split(",")
    return _numbers([word.strip() for word in words if word.strip()], graph, node_type)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # Many numbers are no name that a file can have.
        return False


def _numbers(words: Sequence[str], graph: HeteroGraph, node_type: str) -> Ids:
    names = graph.ids.get(node_type)
    by_name = {} if names is None else {name: number for number, name in enumerate(names.tolist())}
    unknown = [word for word in words if word not in by_name and not (word.isdecimal() and len(word) < 19)]
    if unknown:
        kind = "names or numbers" if by_name else "numbers"
        raise NodesUnknownError(
            f"there is no node '{', '.join(unknown[:_SHOWN])}' of type '{node_type}' in the graph '{graph.name}'",
            f"{kind} of nodes with commas between them, or a file with one in each line",
            "correct them",
        )
    numbers = [by_name[word] if word in by_name else int(word) for word in words]
    return checked_nodes(np.array(numbers, np.int64), graph, node_type)


def save_fusion(path: Path, program: Program, weights: FusionWeights) -> None:
    """Writes fusion weights to an .npz file, with the model that they are of.

    Raises:
        OutputUnwritableError: The path cannot be written.
    """
    names = list(weights)

    def write(file: BinaryIO) -> None:
        arrays: dict[str, Any] = {f"weights_{number}": weights[name] for number, name in enumerate(names)}
        np.savez(file, model=np.array(program.model_hash), tensors=np.array(json.dumps(names)), **arrays)

    write_atomic(path, write)


def read_fusion(path: Path, program: Program) -> FusionWeights:
    """Reads fusion weights of a program's model.

    Raises:
        FusionInvalidError: The file cannot be read, or is of another model.
    """
    try:
        with ArrayArchive(path) as file:
            arrays: dict[str, Any] = {name: file[name] for name in file.names()}
        names = json.loads(str(arrays["tensors"]))
        weights = {name: arrays[f"weights_{number}"].astype(np.int64) for number, name in enumerate(names)}
        model = str(arrays["model"])
    except (*DAMAGE, TypeError, AttributeError, RecursionError) as error:
        raise _invalid(f"cannot read the fusion weights '{path}': {why_unreadable(error)}") from error
    if model != program.model_hash:
        raise _invalid(
            f"the fusion weights '{path}' are of the model with SHA-256 {model[:16]}, the program is of the "
            f"model with SHA-256 {program.model_hash[:16]}"
        )
    return check_fusion(weights, program)


def check_fusion(weights: FusionWeights, program: Program) -> FusionWeights:
    """Fusion weights that fit a program.

    Raises:
        FusionInvalidError: A tensor is not the program's, or has another form.
    """
    found = {name: np.asarray(values) for name, values in weights.items()}
    for name, values in found.items():
        tensor = next((tensor for tensor in program.tensors if tensor.name == name), None)
        if tensor is None or tensor.bits != LOGIT_BITS:
            raise _invalid(f"fusion weights of '{name}', which is no tensor of weights of the program")
        rows = next((stack.rows for stack in program.stacks if stack.name == tensor.node_type and not stack.types), -1)
        if values.dtype.kind not in "iu":
            raise _invalid(f"fusion weights of '{name}' that are {values.dtype}, not whole numbers in Q.8")
        if values.shape != (rows, tensor.channels) or np.abs(values).max(initial=0) > 1 << LOGIT_BITS - 1:
            raise _invalid(f"fusion weights of '{name}' with the shape {list(values.shape)}")
    return found


def _invalid(found: str) -> FusionInvalidError:
    return FusionInvalidError(
        found,
        "fusion weights of a run of this program on a whole graph",
        "write them with `hetfab run PROGRAM --graph GRAPH --save-fusion FILE`",
    )
