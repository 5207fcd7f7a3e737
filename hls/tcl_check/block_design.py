# SPDX-License-Identifier: Apache-2.0
"""A model of Vivado's commands for block designs."""

import fnmatch
import posixpath
import re

from hetfab.hls.tcl_check.addresses import segments_of, spaces_of
from hetfab.hls.tcl_check.catalogue import Ip, matching, repository_ips, setting_problem, vendor_ips, vendor_versions
from hetfab.hls.tcl_check.commands import Call
from hetfab.hls.tcl_check.diagram import Cell, Diagram, Segment
from hetfab.hls.tcl_check.files import Files
from hetfab.hls.tcl_check.interpreter import split_list, tcl_list
from hetfab.hls.tcl_check.ports import Port
from hetfab.hls.tcl_check.problem import Tool
from hetfab.hls.tcl_check.rules import diagram_problems
from hetfab.hls.tcl_check.session import Session
from hetfab.hls.tcl_check.values import whole_number

#: What a board preset or a rule may connect.
_RULES = frozenset({"processing_system7", "zynq_ultra_ps_e", "axi4", "clkrst", "axi4_s2mm", "board", "debug"})
_INTERFACE_KINDS = {"aximm_rtl": "aximm", "axis_rtl": "axis", "bram_rtl": "bram"}


class BlockDesignCommands(Session):
    """The commands that make a block design."""

    def __init__(self, version: str, parts: frozenset[str], files: Files) -> None:
        super().__init__(Tool.VIVADO, version, parts, files)
        self.diagram: Diagram | None = None
        self.repositories: list[str] = []
        self._packed: dict[str, Ip] = {}
        self._ips = {ip.vlnv: ip for ip in vendor_ips(version)}
        self._handlers |= {
            "get_ipdefs": self._get_ipdefs,
            "create_bd_design": self._create_bd_design,
            "current_bd_design": self._current_bd_design,
            "save_bd_design": self._needs_diagram,
            "validate_bd_design": self._validate,
            "regenerate_bd_layout": self._needs_diagram,
            "current_bd_instance": self._current_bd_instance,
            "create_bd_cell": self._create_bd_cell,
            "create_bd_pin": self._create_bd_pin,
            "create_bd_port": self._create_bd_pin,
            "create_bd_intf_pin": self._create_bd_intf_pin,
            "create_bd_intf_port": self._create_bd_intf_pin,
            "get_bd_cells": self._get_bd_cells,
            "get_bd_pins": self._get_ports,
            "get_bd_ports": self._get_ports,
            "get_bd_intf_pins": self._get_ports,
            "get_bd_intf_ports": self._get_ports,
            "get_bd_intf_nets": lambda call: " ".join(call.positional),
            "get_bd_nets": lambda call: " ".join(call.positional),
            "get_bd_addr_spaces": self._get_addresses,
            "get_bd_addr_segs": self._get_addresses,
            "connect_bd_net": self._connect_bd_net,
            "connect_bd_intf_net": self._connect_bd_intf_net,
            "apply_bd_automation": self._apply_bd_automation,
            "group_bd_cells": self._group_bd_cells,
            "create_bd_addr_seg": self._create_bd_addr_seg,
            "assign_bd_address": self._assign_bd_address,
            "exclude_bd_addr_seg": self._exclude_bd_addr_seg,
        }

    # The catalogue

    def read_repositories(self) -> None:
        """Reads the IPs of the repositories; from now on cells can be made of them."""
        for path in self.repositories:
            for ip in repository_ips(self.files.path(path)):
                self._ips[ip.vlnv] = ip
        self._ips |= self._packed

    def add_packed_ip(self, path: str) -> None:
        """Adds the IP of an archive, whose name says its VLNV: ``vendor_library_name_1_0.zip``."""
        parts = posixpath.basename(path).removesuffix(".zip").split("_")
        if len(parts) >= 6 and parts[-1].isdecimal():
            vlnv = f"{parts[0]}.{parts[1]}:{parts[2]}:{'_'.join(parts[3:-2])}:{parts[-2]}.{parts[-1]}"
            self._packed[vlnv] = Ip(vlnv)

    def _get_ipdefs(self, call: Call) -> str:
        return tcl_list(matching(self._ips, call.positional[0] if call.positional else "*"))

    # The design

    def _create_bd_design(self, call: Call) -> str:
        name = call.positional[0]
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            self.note("wrong-value", f"a block design cannot be called '{name}'", "letters, digits and underscores")
        self.diagram = Diagram(name)
        return name

    def _current_bd_design(self, call: Call) -> str:
        name = "" if self.diagram is None else self.diagram.name
        if call.positional and call.positional[0] != name:
            self.note("unknown-object", f"there is no block design '{call.positional[0]}'", "call create_bd_design")
        return name

    def _needs_diagram(self, call: Call) -> str:
        self._open_diagram(call.command)
        return ""

    def _open_diagram(self, command: str) -> Diagram:
        if self.diagram is None:
            self.note("order", f"{command} without a block design", "call create_bd_design first")
            self.diagram = Diagram("design_1")
        return self.diagram

    def _validate(self, call: Call) -> str:
        self._open_diagram(call.command)
        self.finish_diagram()
        return ""

    def finish_diagram(self) -> None:
        """Notes all breaches of the rules of block designs."""
        if self.diagram is not None:
            for problem in diagram_problems(self.diagram):
                self.note(problem.check, problem.text, problem.fix)

    def _current_bd_instance(self, call: Call) -> str:
        diagram = self._open_diagram(call.command)
        if call.positional and call.positional[0] != ".":
            path = diagram.full(call.positional[0])
            if path in diagram.cells:
                diagram.instance = path
            else:
                self.note("unknown-object", f"there is no hierarchy '{path}'", "create it first")
        return diagram.instance

    # Cells and ports

    def _create_bd_cell(self, call: Call) -> str:
        diagram = self._open_diagram(call.command)
        path = diagram.full(call.positional[0])
        if path in diagram.cells:
            self.note("duplicate-name", f"there is a cell {path} already", "choose another name")
        if posixpath.dirname(path) not in diagram.cells:
            self.note("unknown-object", f"there is no hierarchy for {path}", "create it first")
        kind = call.options.get("-type", "ip")
        if kind == "hier":
            diagram.add(path, None)
        elif "-vlnv" in call.options:
            diagram.add(path, self._ip(call.options["-vlnv"]))
        else:
            self.note("missing-option", "create_bd_cell lacks -vlnv", "name the IP")
        return path

    def _ip(self, vlnv: str) -> Ip:
        if vlnv in self._ips:
            return self._ips[vlnv]
        bare, _, number = vlnv.rpartition(":")
        same = [known for known in self._ips if known.rpartition(":")[0] == bare]
        if same:
            text = f"Vivado {self.version} has no {vlnv.split(':')[2]} of version {number}"
            self.note("ip-version", text, "it has " + ", ".join(sorted(same)))
            return self._ips[same[0]]
        name = vlnv.split(":")[2]
        if name in vendor_versions(self.version) or bare.startswith("xilinx.com:ip:"):
            self.note("unknown-ip", f"there is no IP {vlnv}", "correct vendor, library and name")
        else:
            self.note("unknown-ip", f"no IP repository has {vlnv}", "set ip_repo_paths, then update_ip_catalog")
        return Ip(vlnv)

    def _create_bd_pin(self, call: Call) -> str:
        diagram = self._open_diagram(call.command)
        name = call.positional[0]
        bits = 1
        if "-from" in call.options and "-to" in call.options:
            bits = int(call.options["-from"]) - int(call.options["-to"]) + 1
        signal = {"undef": "any", "ce": "data"}.get(
            call.options.get("-type", "undef"), call.options.get("-type", "any")
        )
        outside = call.command == "create_bd_port"
        drives = (call.options["-dir"] == "I") == outside
        owner = "/" if outside else diagram.instance
        port = Port(name, drives=drives, bits=bits, signal=signal, required=False)
        diagram.cells[owner].own_ports[name] = port
        return posixpath.join(owner, name)

    def _create_bd_intf_pin(self, call: Call) -> str:
        diagram = self._open_diagram(call.command)
        name = call.positional[0]
        kind = call.options["-vlnv"].split(":")[2]
        owner = "/" if call.command == "create_bd_intf_port" else diagram.instance
        signal = _INTERFACE_KINDS.get(kind, kind)
        port = Port(name, True, "Master" in call.options["-mode"], None, signal, required=False)
        diagram.cells[owner].own_ports[name] = port
        return posixpath.join(owner, name)

    def _get_bd_cells(self, call: Call) -> str:
        if self.diagram is None and "-quiet" in call.options:
            return ""
        diagram = self._open_diagram(call.command)
        if not call.positional:
            return tcl_list([path for path in diagram.cells if path != "/"])
        found = [cell.path for word in split_list(call.positional[0]) for cell in diagram.find_cells(word)]
        self._nothing(call, found)
        return tcl_list(found)

    def _get_ports(self, call: Call) -> str:
        diagram = self._open_diagram(call.command)
        if not call.positional:
            return ""
        bus = "intf" in call.command
        found = [path for word in split_list(call.positional[0]) for path in diagram.find_ports(word, bus=bus)]
        is_port = call.command.endswith("_ports")
        found = [path for path in found if (posixpath.dirname(path) == "/") == is_port]
        self._nothing(call, found)
        return tcl_list(found)

    def _nothing(self, call: Call, found: list[str]) -> None:
        if not found and "-quiet" not in call.options:
            text = f"{call.command} finds no '{call.positional[0][:80]}'"
            self.note("unknown-object", text, "name one that exists")

    # Connections

    def _connect_bd_net(self, call: Call) -> str:
        diagram = self._open_diagram(call.command)
        paths = [path for word in call.positional for path in split_list(word)]
        for path in paths:
            found = diagram.port(path)
            if found is None or (found[1] is not None and found[1].bus):
                self.note("unknown-object", f"connect_bd_net gets '{path}', which is no pin", "use get_bd_pins")
                return ""
        if len(paths) < 2 and "-net" not in call.options:
            self.note("wrong-arguments", f"connect_bd_net gets {len(paths)} pins", "give two or more")
        if len(set(paths)) != len(paths):
            self.note("wrong-arguments", "connect_bd_net gets a pin twice", "name each once")
        if paths:
            diagram.join(paths)
        return ""

    def _connect_bd_intf_net(self, call: Call) -> str:
        diagram = self._open_diagram(call.command)
        paths = [path for word in call.positional for path in split_list(word)]
        for path in paths:
            found = diagram.port(path)
            if found is None or (found[1] is not None and not found[1].bus):
                text = f"connect_bd_intf_net gets '{path}', which is no interface"
                self.note("unknown-object", text, "use get_bd_intf_pins")
                return ""
        if len(set(paths)) != 2:
            self.note("wrong-arguments", f"connect_bd_intf_net gets {len(set(paths))} interfaces", "give two")
            return ""
        for path in paths:
            diagram.bus_ends[path] = diagram.bus_ends.get(path, 0) + 1
            hierarchy = diagram.cells[posixpath.dirname(path) or "/"].is_hierarchy
            if diagram.bus_ends[path] > (2 if hierarchy else 1):
                self.note("interface-shared", f"{path} is connected twice", "an interface has one other side")
        diagram.join(paths)
        return ""

    def _apply_bd_automation(self, call: Call) -> str:
        diagram = self._open_diagram(call.command)
        rule = call.options["-rule"].rpartition(":")[2]
        if rule not in _RULES:
            self.note("unknown-rule", f"there is no rule '{rule}'", "known are " + ", ".join(sorted(_RULES)))
        words = split_list(call.options.get("-config", ""))
        config = dict(zip(words[::2], words[1::2], strict=False))
        ends = [config[key].split(" ")[0] for key in ("Master", "Slave") if config.get(key, "").startswith("/")]
        for path in [*ends, *split_list(" ".join(call.positional))]:
            cell = diagram.cells.get(path) or diagram.cells.get(posixpath.dirname(path))
            if cell is None:
                self.note("unknown-object", f"apply_bd_automation names '{path}'", "name one that exists")
            else:
                cell.automated = True
        if len(ends) == 2:
            diagram.bridged.append((ends[0], ends[1]))
            diagram.addresses_are_automatic = True
        return ""

    def _group_bd_cells(self, call: Call) -> str:
        diagram = self._open_diagram(call.command)
        hierarchy = diagram.full(call.positional[0])
        diagram.add(hierarchy, None)
        for path in call.positional[1:]:
            if path in diagram.cells:
                diagram.move(path, hierarchy)
            else:
                self.note("unknown-object", f"group_bd_cells names '{path}'", "name a cell that exists")
        return hierarchy

    # Addresses

    def _get_addresses(self, call: Call) -> str:
        diagram = self._open_diagram(call.command)
        if not call.positional:
            return ""
        found = []
        for word in split_list(call.positional[0]):
            wanted = diagram.full(word)
            for cell in diagram.cells.values():
                if cell.is_opaque and wanted.startswith(f"{cell.path}/"):
                    found.append(wanted)
                names = spaces_of(cell) if call.command == "get_bd_addr_spaces" else list(segments_of(cell))
                found += [name for name in names if fnmatch.fnmatchcase(name, wanted)]
        self._nothing(call, found)
        return tcl_list(found)

    def _place(self, space: str, name: str, base: int, size: int) -> None:
        diagram = self._open_diagram("assign_bd_address")
        for path, known in ((space, spaces_of), (name, segments_of)):
            owners = [cell for cell in diagram.cells.values() if path.startswith(f"{cell.path}/") and cell.path != "/"]
            if not any(cell.is_opaque or path in known(cell) for cell in owners):
                self.note("unknown-object", f"'{path}' is no address space or segment", "use get_bd_addr_segs")
                return
        if any((entry.space, entry.name) == (space, name) for entry in diagram.segments):
            self.note("address-overlap", f"{name} has an address in {space} already", "assign it once")
        diagram.segments.append(Segment(space, name, base, size))

    def _create_bd_addr_seg(self, call: Call) -> str:
        space, name, _ = call.positional
        self._place(space, name, whole_number(call.options["-offset"]), whole_number(call.options["-range"]))
        return ""

    def _assign_bd_address(self, call: Call) -> str:
        diagram = self._open_diagram(call.command)
        if not call.positional:
            diagram.addresses_are_automatic = True
            if set(call.options) - {"-force", "-quiet"}:
                self.note("wrong-arguments", "assign_bd_address has no segment", "use get_bd_addr_segs")
            return ""
        missing = {"-offset", "-range"} - set(call.options)
        if missing:
            diagram.addresses_are_automatic = True
            return ""
        spaces = split_list(call.options.get("-target_address_space", ""))
        if not spaces:
            spaces = [space for cell in diagram.cells.values() if cell.is_processor for space in spaces_of(cell)]
        for name in split_list(call.positional[0]):
            for space in spaces:
                self._place(space, name, whole_number(call.options["-offset"]), whole_number(call.options["-range"]))
        return ""

    def _exclude_bd_addr_seg(self, call: Call) -> str:
        if "-target_address_space" not in call.options:
            self.note("missing-option", "exclude_bd_addr_seg lacks -target_address_space", "name the master's space")
            return ""
        for name in split_list(call.positional[0]):
            self._place(call.options["-target_address_space"], name, 0, 0)
        return ""

    # Properties

    def set_block_design_property(self, target: str, name: str, value: str) -> bool:
        """Sets a property of a cell, a pin or an interface; False where the target is none."""
        if self.diagram is None:
            return False
        cell = self.diagram.cells.get(target)
        if cell is not None and target != "/":
            self._set_cell_property(cell, name, value)
            return True
        if target and self.diagram.port(target) is not None:
            if not re.fullmatch(r"CONFIG\.[A-Z_]+(\.VALUE_SRC)?|HDL_ATTRIBUTE\.(DEBUG|MARK_DEBUG)", name):
                self.note("unknown-setting", f"a pin has no property '{name}'", "CONFIG.<name>")
            return True
        return "HDL_ATTRIBUTE" in name

    def _set_cell_property(self, cell: Cell, name: str, value: str) -> None:
        if not name.startswith("CONFIG."):
            if not re.fullmatch(r"PFM\.(AXI_PORT|CLOCK|IRQ|AXIS_PORT)|SELECTED_SIM_MODEL|LOCATION", name):
                self.note("unknown-setting", f"{cell.path} has no property '{name}'", "CONFIG.<name>")
            return
        parameter = name.removeprefix("CONFIG.")
        if cell.ip is None:
            self.note("unknown-setting", f"the hierarchy {cell.path} has no settings", "name a cell of an IP")
        elif cell.ip.is_vendors and (problem := setting_problem(cell.ip.name, parameter, value)) is not None:
            self.note(*problem)
        elif cell.ip.ports is not None:
            self.note("unknown-setting", f"{cell.path} has no setting {name}", "leave it out")
        else:
            cell.settings[parameter] = value

    def block_design_property(self, target: str, name: str) -> str | None:
        """A property of a cell, a pin or an IP; None where the target is none of these."""
        if name.upper() == "VLNV" and target in self._ips:
            return target
        if self.diagram is None:
            return None
        if target == self.diagram.name and name.upper() == "NAME":
            return target
        cell = self.diagram.cells.get(target)
        if cell is not None:
            return self._cell_property(cell, name)
        found = self.diagram.port(target) if target else None
        if found is None:
            return None
        return "16" if name == "CONFIG.ADDR_WIDTH" else ""

    def _cell_property(self, cell: Cell, name: str) -> str | None:
        if name.upper() == "TYPE":
            return "hier" if cell.is_hierarchy else "ip"
        if name.upper() in ("NAME", "PATH", "VLNV"):
            texts = {"NAME": posixpath.basename(cell.path), "PATH": cell.path, "VLNV": cell.ip.vlnv if cell.ip else ""}
            return texts[name.upper()]
        parameter = name.removeprefix("CONFIG.")
        if parameter in cell.settings or cell.is_opaque:
            return cell.settings.get(parameter, "")
        self.note("unknown-setting", f"{cell.path} has no property {name}", "name one that the model knows")
        return ""
