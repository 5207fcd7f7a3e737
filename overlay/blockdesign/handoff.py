# SPDX-License-Identifier: Apache-2.0
"""Reads what the driver relies on in a hardware handoff file (.hwh), before pynq takes the whole file at its word.

XML with a document type is refused: its entities can grow without bound or name other files. Nothing is kept of an
element but what is asked for, so that memory follows the file's size.
"""

from dataclasses import dataclass
from xml.parsers import expat

from hetfab.overlay.blockdesign.build import hls_vlnv, register_bytes

#: Elements in one another: what Vivado writes has fewer than ten.
_DEEPEST = 64
_ROOT = "EDKSYSTEM"


@dataclass(frozen=True)
class Handoff:
    """DISPATCH in a handoff file.

    Attributes:
        instance: Its name.
        base: Physical address of its registers.
        size: Bytes of them.
    """

    instance: str
    base: int
    size: int


def read_handoff(raw: bytes) -> Handoff:
    """Finds DISPATCH and its registers.

    Raises:
        ValueError: It is not XML as Vivado writes it, or has no DISPATCH of this instruction set with its registers.
    """
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = reader.refuse_doctype
    parser.StartElementHandler = reader.begin
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(raw, True)
    except expat.ExpatError as error:
        raise ValueError(f"its handoff is not XML: {error}") from error
    instances = [name for name, vlnv in reader.modules if vlnv == hls_vlnv("dispatch")]
    if len(instances) != 1 or not instances[0]:
        raise ValueError(f"its handoff has {len(instances)} named modules '{hls_vlnv('dispatch')}', not one")
    places = [(base, high) for name, base, high in reader.ranges if name == instances[0]]
    if len(places) != 1:
        raise ValueError(f"its handoff has {len(places)} address ranges of '{instances[0]}', not one")
    base, high = (_address(text) for text in places[0])
    size = high - base + 1
    if size < register_bytes() or base % register_bytes():
        raise ValueError(f"its handoff gives '{instances[0]}' the {size} bytes at {base:#x}")
    return Handoff(instances[0], base, size)


def _address(text: str) -> int:
    try:
        found = int(text, 16)
    except ValueError:
        found = -1
    if not text.startswith("0x") or not 0 <= found < 1 << 64:
        raise ValueError(f"its handoff has the address {text[:32]!r}")
    return found


class _Reader:
    """Collects modules and address ranges."""

    def __init__(self) -> None:
        self.modules: list[tuple[str, str]] = []
        self.ranges: list[tuple[str, str, str]] = []
        self._depth = 0

    def refuse_doctype(self, name: str, system: str | None, public: str | None, internal: bool) -> None:
        raise ValueError("its handoff has a document type, which Vivado does not write")

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        if self._depth == 0 and tag != _ROOT:
            raise ValueError(f"its handoff begins with {tag[:32]!r}, not with '{_ROOT}'")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"its handoff has more than {_DEEPEST} elements in one another")
        if tag == "MODULE":
            self.modules.append((attributes.get("INSTANCE", ""), attributes.get("VLNV", "")))
        elif tag == "MEMRANGE" and attributes.get("MEMTYPE") == "REGISTER":
            place = (attributes.get(name, "") for name in ("INSTANCE", "BASEVALUE", "HIGHVALUE"))
            self.ranges.append(tuple(place))  # type: ignore[arg-type]

    def end(self, tag: str) -> None:
        self._depth -= 1
