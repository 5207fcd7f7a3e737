# SPDX-License-Identifier: Apache-2.0
"""The IP catalogue: which IPs a release of Vivado has, their settings, and IPs from repositories."""

import fnmatch
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from hetfab.hls.tcl_check.ports import PORTS, Port
from hetfab.hls.tcl_check.values import described, is_of_kind

_FOLDER = Path(__file__).parent
_SPIRIT = "{http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009}"
_VERSION_SUFFIX = re.compile(r"\.(VALUE_SRC|VALUE_MODE)$")
#: A name this close to a known one is a slip of the pen, not a setting that the table lacks.
_SLIP = 2


@dataclass(frozen=True)
class Ip:
    """An IP.

    Attributes:
        vlnv: Vendor, library, name, version.
        ports: Of an IP from a repository that says them, else None.
    """

    vlnv: str
    ports: tuple[Port, ...] | None = None

    @property
    def name(self) -> str:
        """The third part of the VLNV."""
        return self.vlnv.split(":")[2]

    @property
    def is_opaque(self) -> bool:
        """Whether the model does not know its ports."""
        return self.ports is None and not (self.is_vendors and self.name in PORTS)

    @property
    def is_vendors(self) -> bool:
        """Whether the tool brings it."""
        return self.vlnv.startswith(("xilinx.com:ip:", "xilinx.com:inline_hdl:"))


@cache
def _settings() -> dict[str, Any]:
    table: dict[str, Any] = json.loads((_FOLDER / "tables" / "ips.json").read_text(encoding="utf-8"))
    return table


@cache
def vendor_versions(version: str) -> dict[str, str]:
    """The version of each IP that a release of Vivado brings."""
    table = json.loads((_FOLDER / "tables" / "ip_versions.json").read_text(encoding="utf-8"))["ips"]
    found = {}
    for name, entry in table.items():
        chosen = entry.get(version, entry.get("all"))
        if chosen is not None:
            found[name] = chosen
    return found


def vendor_ips(version: str) -> Iterator[Ip]:
    """All IPs that a release of Vivado brings, as far as the model knows."""
    for name, number in vendor_versions(version).items():
        library = "inline_hdl" if name.startswith("il") else "ip"
        yield Ip(f"xilinx.com:{library}:{name}:{number}")


def defaults(name: str) -> dict[str, str]:
    """The settings of a vendor's IP before a script changes any."""
    parameters = _settings().get(name, {}).get("parameters", {})
    return {parameter: default for parameter, (_, default) in parameters.items()}


def setting_problem(name: str, parameter: str, value: str) -> tuple[str, str, str] | None:
    """What is wrong with a setting of a vendor's IP: check, text and fix; None where nothing is."""
    if name not in _settings():
        return None
    bare = _VERSION_SUFFIX.sub("", parameter)
    parameters: Mapping[str, list[str]] = _settings()[name]["parameters"]
    if bare not in parameters:
        close = [known for known in parameters if _distance(bare, known) <= _SLIP]
        patterns = _settings()[name]["patterns"]
        if not close and any(re.fullmatch(pattern, bare) for pattern in patterns):
            return None
        hint = f"did you mean {close[0]}?" if close else "known are " + ", ".join(sorted(parameters)[:40])
        return "unknown-setting", f"{name} has no setting CONFIG.{bare}", hint
    kind = parameters[bare][0]
    if bare == parameter and not is_of_kind(value, kind):
        return "wrong-value", f"CONFIG.{parameter} of {name} is '{value}'", f"it takes {described(kind)}"
    return None


def _distance(first: str, second: str) -> int:
    """Letters to change, add or drop between two names, counted up to one more than a slip."""
    if abs(len(first) - len(second)) > _SLIP:
        return _SLIP + 1
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


def matching(ips: Mapping[str, Ip], pattern: str) -> list[str]:
    """VLNVs that match a pattern, as ``get_ipdefs`` finds them."""
    return sorted(vlnv for vlnv in ips if fnmatch.fnmatchcase(vlnv, pattern))


def repository_ips(folder: Path) -> Iterator[Ip]:
    """The IPs of a repository: every ``component.xml`` in the folder or below."""
    for path in sorted(folder.rglob("component.xml")) if folder.is_dir() else []:
        root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
        names = [root.findtext(f"{_SPIRIT}{part}", "") for part in ("vendor", "library", "name", "version")]
        # Ports of IPs that are packaged by hand depend on settings; those of Vitis HLS do not change after the export.
        ports = tuple(_component_ports(root)) if names[1] == "hls" else ()
        yield Ip(":".join(names), ports or None)


def _component_ports(root: ElementTree.Element) -> Iterator[Port]:
    """Ports of a component: interfaces, and pins with what their one-pin interfaces say of them."""
    roles: dict[str, dict[str, str]] = {}
    for bus in root.iter(f"{_SPIRIT}busInterface"):
        name, kind = bus.findtext(f"{_SPIRIT}name", ""), bus.find(f"{_SPIRIT}busType")
        values = {
            entry.findtext(f"{_SPIRIT}name", ""): entry.findtext(f"{_SPIRIT}value", "")
            for entry in bus.iter(f"{_SPIRIT}parameter")
        }
        library = "" if kind is None else kind.get(f"{_SPIRIT}library", "")
        type_name = "" if kind is None else kind.get(f"{_SPIRIT}name", "")
        if library == "signal":
            for pin in bus.iter(f"{_SPIRIT}physicalPort"):
                roles[pin.findtext(f"{_SPIRIT}name", "")] = {"signal": type_name, **values}
        else:
            master = bus.find(f"{_SPIRIT}master") is not None
            bits = int(values["DATA_WIDTH"]) if "DATA_WIDTH" in values else None
            protocol = values.get("PROTOCOL", "") if type_name == "aximm" else ""
            yield Port(name, True, master, bits, type_name, protocol)
    for port in root.iter(f"{_SPIRIT}port"):
        name = port.findtext(f"{_SPIRIT}name", "")
        yield _pin(name, port, roles.get(name, {}))


_SIGNALS = {"clock": "clk", "reset": "rst", "interrupt": "intr"}


def _pin(name: str, port: ElementTree.Element, role: Mapping[str, str]) -> Port:
    drives = port.findtext(f"{_SPIRIT}wire/{_SPIRIT}direction", "") == "out"
    left = port.findtext(f"{_SPIRIT}wire/{_SPIRIT}vector/{_SPIRIT}left", "0")
    signal = _SIGNALS.get(role.get("signal", ""), "data")
    return Port(
        name,
        drives=drives,
        bits=int(left) + 1,
        signal=signal,
        active_low=role.get("POLARITY", "ACTIVE_LOW") == "ACTIVE_LOW" if signal == "rst" else None,
        required=not drives or signal == "intr",
        hertz=int(role.get("FREQ_HZ", "0")),
        words=int(role.get("MEM_WORDS", "0")),
    )
