# SPDX-License-Identifier: Apache-2.0
"""Which engine explains best why some vectors fail and the others do not: spectrum-based fault localization.

A vector exercises elements: instructions, their modes, signals, and what it is for. An element is suspected by how many
failing vectors have it and how few others do, as Ochiai's coefficient says (R. Abreu, P. Zoeteweij, A. van Gemund: On
the Accuracy of Spectrum-based Fault Localization, TAIC PART 2007).
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hetfab.driver.selftest.draft import DISPATCH, Data, Vector, modes_of
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import decode

_ROUNDING = 1e-9


@dataclass(frozen=True, order=True)
class Element:
    """A part of an engine that a vector exercises.

    Attributes:
        engine: The engine, or ``DISPATCH``.
        part: An instruction, empty for the engine as a whole.
        detail: A mode of it, or another reason to suspect it.
    """

    engine: str
    part: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Suspect:
    """An engine and how well it explains the failures.

    Attributes:
        engine: Its name.
        share: Ochiai's coefficient of its most suspected part, at most 1.
        instruction: The instruction suspected most, empty where none is.
        mode: A field of it and its value, where these are suspected more than the instruction as a whole.
    """

    engine: str
    share: float
    instruction: str
    mode: str


def elements(vector: Vector) -> frozenset[Element]:
    """What a vector exercises."""
    found = {Element(vector.engine, detail="purpose"), Element(vector.engine, vector.operation, "purpose")}
    found.add(Element(DISPATCH))
    for word in vector.words:
        decoded = decode(word)
        engine = next(engine.name for engine in isa().engines if engine.id == decoded.fields["engine"])
        operation = decoded.operation
        for name in ("signal0", "signal1", "wait0", "wait1"):
            if decoded.fields[name]:
                found |= {Element(engine, detail=name), Element(DISPATCH, detail=name)}
        if operation.address_field is not None:
            segment = operation.address_field.get(word) >> isa().offset_bits
            found |= {Element(DISPATCH, detail=f"segment {number}") for number in ("", segment)}
        if operation.name == "sync":
            continue
        found.add(Element(engine, operation.name, "values"))
        # Flat data look the same wherever a load puts them.
        if engine != "load" or vector.data is not Data.FLAT:
            found |= {Element(engine), Element(engine, operation.name)}
            found |= {Element(engine, operation.name, f"{field}={value}") for _, field, value in modes_of([word])}
            # Instructions that share a field share what it controls.
            used = [field.name for field in operation.fields if decoded.fields[field.name]]
            found |= {Element(engine, detail=f"field {name}") for name in used}
    return frozenset(found)


def suspects(
    failed: Sequence[Vector], passed: Iterable[Vector], misplaced: Mapping[str, int], most: int = 3
) -> tuple[Suspect, ...]:
    """The engines that explain the failures best, the best first.

    Args:
        failed: Vectors that gave another result.
        passed: The others.
        misplaced: In how many of the failed ones an engine wrote to other places than it should have.
        most: How many engines to name.
    """
    in_failed = Counter(element for vector in failed for element in elements(vector))
    in_passed = Counter(element for vector in passed for element in elements(vector))
    shares = {
        element: count / math.sqrt(len(failed) * (count + in_passed[element])) for element, count in in_failed.items()
    }
    for engine, count in misplaced.items():
        shares[Element(engine, detail="places")] = math.sqrt(count / len(failed))
    purposes = Counter(vector.engine for vector in failed)
    engines = {element.engine for element in shares}

    def rank(engine: str) -> tuple[float, int, int]:
        best = max(share for element, share in shares.items() if element.engine == engine)
        return round(best / _ROUNDING) * _ROUNDING, misplaced.get(engine, 0), purposes[engine]

    ranked = sorted(engines, key=lambda engine: (rank(engine), engine), reverse=True)
    return tuple(_suspect(engine, rank(engine)[0], shares) for engine in ranked[:most])


def _suspect(engine: str, share: float, shares: Mapping[Element, float]) -> Suspect:
    own = {element: value for element, value in shares.items() if element.engine == engine and element.part}
    whole = {e.part: value for e, value in own.items() if e.detail in ("", "purpose")}
    for element, value in own.items():
        if element.detail == "purpose":
            whole[element.part] = max(whole[element.part], value)
    if not whole:
        return Suspect(engine, share, "", "")
    instruction = max(whole, key=lambda name: (whole[name], name))
    modes = {
        e.detail: value
        for e, value in own.items()
        if e.part == instruction and "=" in e.detail and value > shares.get(Element(engine, instruction), 0.0)
    }
    mode = max(modes, key=lambda name: (modes[name], name)) if modes else ""
    return Suspect(engine, share, instruction, mode)
