# SPDX-License-Identifier: Apache-2.0
"""Gives the operators of the host their places among a program's layers: each behind the last layer that it reads."""

import base64
from dataclasses import replace

from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.host_nodes import ON_HOST, HostNode
from hetfab.overlay.program import LayerInfo, Program


def with_host_nodes(program: Program, lowered: LoweredModel) -> Program:
    """The program with the operators of its host, as layers without instructions.

    Args:
        program: What the compiler made of the layers.
        lowered: The layers, and the operators between them.
    """
    if not lowered.host:
        return program
    nodes = tuple(
        HostNode(step.operator, step.inputs, step.output, base64.b64encode(step.model).decode())
        for step in lowered.host
    )
    places: dict[str, int] = {}
    for node in nodes:
        behind = [number for name in node.inputs for number in lowered.writers(name)]
        before = [places[name] for name in node.inputs if name in places]
        places[node.output] = max([*(number + 1 for number in behind), *before], default=0)
    order: list[int | HostNode] = []
    for number in range(len(program.layers) + 1):
        order += [node for node in nodes if places[node.output] == number]
        order += [number] if number < len(program.layers) else []
    moved = {number: place for place, number in enumerate(order) if isinstance(number, int)}
    return replace(
        program,
        layers=tuple(program.layers[each] if isinstance(each, int) else _described(each, program) for each in order),
        blocks=tuple(replace(block, layer=moved[block.layer]) for block in program.blocks),
        host_nodes=nodes,
    )


def _described(node: HostNode, program: Program) -> LayerInfo:
    written = program.tensor(node.output)
    return LayerInfo(
        name=node.output,
        kind=ON_HOST,
        engines=(ON_HOST,),
        node_type=written.node_type,
        inputs=sum(program.tensor(name).channels for name in node.inputs),
        channels=written.channels,
        aggregations=(),
        tile_rows=0,
        channels_on_l=0,
        weight_bits_on_d=(),
        weight_bits_on_l=(),
    )
