# SPDX-License-Identifier: Apache-2.0
"""Text of ``codec.py``, packers and enumerations from ``isa.json``, and of ``counters.py`` from ``counters.json``."""

import textwrap
from collections.abc import Iterable

from hetfab.overlay.isa.counter_table import counter_table
from hetfab.overlay.isa.spec import Field, Isa, Operation

_WIDTH = 110

_HEAD = '''\
# SPDX-License-Identifier: Apache-2.0
"""Packers of the instruction set, one function per operation, and its enumerations.

Generated from ``isa.json`` by ``python -m hetfab.overlay.isa.generate``; do not edit.
"""

from enum import IntEnum
from operator import index

from hetfab.overlay.errors import FieldRangeError

'''

_WORD = '''
def _word(operation: str, engine: int, opcode: int, fields: tuple[tuple[str, int, int, int], ...]) -> int:
    """Puts (name, first bit, bits, value) fields into a word."""
    word = engine << {engine} | opcode << {opcode}
    for name, lsb, bits, value in fields:
        if not 0 <= value < 1 << bits:
            raise FieldRangeError(
                f"field '{{name}}' of '{{operation}}' is {{value}}",
                f"0 to {{(1 << bits) - 1}} ({{bits}} bits)",
                "use a smaller tile, or report this if hetfab compiled the program",
            )
        word |= index(value) << lsb  # index: a numpy integer would lose its high bits in the shift
    return word
'''


def codec_text(isa: Isa) -> str:
    """The whole module, formatted as ``ruff format`` does."""
    enumerations = [
        _enumeration("Engine", "Engines by their id in the header.", ((e.name, e.id) for e in isa.engines)),
        _enumeration("Segment", "Segments of DRAM.", ((name, i) for i, name in enumerate(isa.segments))),
        *(
            _enumeration(
                "".join(part.capitalize() for part in (operation.name, field.name)),
                f"Values of the field ``{field.name}`` of ``{operation.name}``.",
                ((name, value) for value, name in enumerate(field.values)),
            )
            for operation in isa.operations
            for field in operation.fields
            if field.values
        ),
        _enumeration("Fault", "Fault codes of DISPATCH.", ((f.name, f.code) for f in isa.faults)),
        _enumeration(
            "RegisterOffset",
            "Byte offsets of DISPATCH's registers.",
            ((r.name, r.offset) for r in isa.registers),
        ),
    ]
    word = _WORD.format(engine=isa.header_field("engine").lsb, opcode=isa.header_field("opcode").lsb)
    return _HEAD + "".join(enumerations) + word + "".join(_packer(isa, o) for o in isa.operations)


def _enumeration(name: str, meaning: str, members: Iterable[tuple[str, int]]) -> str:
    lines = [f"    {member.upper()} = {value}" for member, value in members]
    return "\n".join(["", f"class {name}(IntEnum):", f'    """{meaning}"""', "", *lines, ""]) + "\n"


def _packer(isa: Isa, operation: Operation) -> str:
    header = [field for field in isa.header if field.name not in ("engine", "opcode")]
    any_engine = operation.engine == "*"
    engine = "engine" if any_engine else f"Engine.{operation.engine.upper()}"
    parameters = ["engine: Engine"] * any_engine
    parameters += [f"{field.name}: int" for field in operation.fields]
    parameters += [f"{field.name}: int = 0" for field in header]
    fields = [*operation.fields, *header]
    rows = [f'            ("{field.name}", {field.lsb}, {field.bits}, {field.name}),' for field in fields]
    return "\n".join(
        [
            "",
            "",
            f"def {operation.name}(",
            "    *,",
            *(f"    {parameter}," for parameter in parameters),
            ") -> int:",
            *_docstring(operation, fields, any_engine),
            "    return _word(",
            f'        "{operation.name}",',
            f"        {engine},",
            f"        {operation.opcode},",
            "        (",
            *rows,
            "        ),",
            "    )",
            "",
        ]
    )


def _docstring(operation: Operation, fields: list[Field], any_engine: bool) -> list[str]:
    entries = ["engine: Engine that waits and signals."] * any_engine
    for field in fields:
        entries.append(f"{field.name}: {_sentence(field.meaning)}; 0 to {field.largest}.")
    return [
        *_wrap(f'"""Packs ``{operation.name}``, 128 bits.', "    ", "    "),
        "",
        *_wrap(operation.meaning, "    ", "    "),
        "",
        "    Args:",
        *(line for entry in entries for line in _wrap(entry, "        ", "            ")),
        "",
        "    Raises:",
        "        FieldRangeError: A value does not fit its field.",
        '    """',
    ]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _wrap(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest)


_COUNTERS = '''\
# SPDX-License-Identifier: Apache-2.0
"""The event counters of a run.

Generated from ``counters.json`` by ``python -m hetfab.overlay.isa.generate``; do not edit.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Counters:
    """Totals since the start of a run, 64 bits each, counted by the engines.

    Attributes:
{attributes}
    """

{members}
'''


def counters_text() -> str:
    """The module ``counters.py``, formatted as ``ruff format`` does."""
    counters = counter_table().counters
    attributes = [
        line
        for counter in counters
        for line in _wrap(f"{counter.name}: {_sentence(counter.definition)} ({counter.unit}).", " " * 8, " " * 12)
    ]
    members = [f"    {counter.name}: int" for counter in counters]
    return _COUNTERS.format(attributes="\n".join(attributes), members="\n".join(members))
