# SPDX-License-Identifier: Apache-2.0
"""A model of Vivado's project: files, runs, properties. What concerns block designs is in ``block_design.py``."""

import fnmatch
import re
from collections.abc import Callable

from hetfab.hls.tcl_check.block_design import BlockDesignCommands
from hetfab.hls.tcl_check.commands import Call
from hetfab.hls.tcl_check.files import Files
from hetfab.hls.tcl_check.interpreter import split_list, tcl_list
from hetfab.hls.tcl_check.values import is_of_kind

_RUNS = ("synth_1", "impl_1")
#: Properties of objects that are no cells: kind of object, pattern of the name, kind of the value.
_PROPERTIES: dict[str, dict[str, str]] = {
    "project": {
        "board_part": r"[\w.-]+:[\w.-]+:part0:\d+\.\d+",
        "ip_repo_paths": ".*",
        "board_part_repo_paths": ".*",
        "target_language": "Verilog|VHDL",
        "default_lib": r"\w+",
        "simulator_language": "Verilog|VHDL|Mixed",
        "platform.extensible": "true|false",
    },
    "run": {
        "strategy": r"\w+",
        r"steps\.\w+\.args\.directive": r"\w+",
        r"steps\.\w+\.args\.retiming": "true|false|0|1",
        r"steps\.\w+\.is_enabled": "true|false|0|1",
        r"steps\.\w+\.args\.more options": ".*",
    },
    "file": {
        "synth_checkpoint_mode": "Hierarchical|Singular|None",
        "used_in": ".*",
        "is_enabled": "0|1|true|false",
        "pfm_name": ".*",
    },
    "fileset": {"top": r"\w+", "include_dirs": ".*", "verilog_define": ".*"},
}


class Vivado(BlockDesignCommands):
    """A run of Vivado."""

    def __init__(self, version: str, parts: frozenset[str], files: Files) -> None:
        super().__init__(version, parts, files)
        self._project = ""
        self._folder = ""
        self._is_known = True
        self._sources: list[str] = []
        self._top = ""
        self._done: dict[str, str] = {}
        self._opened_run = False
        handlers: dict[str, Callable[[Call], str]] = {
            "version": lambda _: self.version,
            "create_project": self._create_project,
            "open_project": self._open_project,
            "close_project": self._close_project,
            "current_project": lambda _: self._project,
            "get_projects": lambda _: self._project,
            "set_property": self._set_property,
            "get_property": self._get_property,
            "get_param": lambda _: "",
            "update_ip_catalog": self._update_ip_catalog,
            "get_files": self._get_files,
            "add_files": self._add_files,
            "import_files": lambda _: "",
            "make_wrapper": self._make_wrapper,
            "generate_target": self._generate_target,
            "get_runs": self._get_runs,
            "current_run": lambda call: "synth_1" if "-synthesis" in call.options else "impl_1",
            "launch_runs": self._launch_runs,
            "wait_on_run": self._wait_on_run,
            "wait_on_runs": self._wait_on_run,
            "reset_run": self._reset_run,
            "open_run": self._open_run,
            "report_utilization": self._report,
            "report_timing_summary": self._report,
            "report_power": self._report,
            "report_drc": self._report,
            "write_bitstream": self._write_bitstream,
            "write_hw_platform": self._write_bitstream,
            "current_fileset": lambda _: "sources_1",
            "get_filesets": lambda call: call.positional[0] if call.positional else "sources_1",
            "update_compile_order": self._update_compile_order,
        }
        self._handlers |= handlers

    def end(self) -> None:
        """A script that makes a project does more with it than that."""
        if not self._project_seen:
            self.note("unfinished", "the script opens no project", "call create_project or open_project")
        elif self.diagram is not None and not self._was_used:
            self.finish_diagram()
        for run, state in self._done.items():
            if state == "launched":
                self.note("order", f"the script does not wait for {run}", "call wait_on_run")

    _project_seen = False
    _was_used = False

    def _create_project(self, call: Call) -> str:
        self._project = call.positional[0] if call.positional else "project_1"
        self._folder = call.positional[1] if len(call.positional) > 1 else "."
        if "-part" in call.options:
            self.check_part(call.options["-part"])
        else:
            self.note("missing-option", "create_project lacks -part", "name the FPGA")
        self.files.make(f"{self._folder}/{self._project}.xpr")
        self._project_seen = True
        return self._project

    def _open_project(self, call: Call) -> str:
        path = call.positional[0]
        if not path.endswith(".xpr") or not self.needs_file(path):
            self.note("missing-file", f"'{path}' is no project", "name the .xpr file")
        self._project = self.files.path(path).stem
        self._folder = str(self.files.path(path).parent)
        self._project_seen = True
        self._is_known = False
        self._top = "overlay_wrapper"
        return self._project

    def _close_project(self, _: Call) -> str:
        self._needs_project("close_project")
        self._project = ""
        return ""

    def _needs_project(self, command: str) -> None:
        if not self._project:
            self.note("order", f"{command} without a project", "call create_project or open_project first")

    def _update_ip_catalog(self, call: Call) -> str:
        self._needs_project("update_ip_catalog")
        if "-add_ip" in call.options and self.needs_file(call.options["-add_ip"]):
            self.add_packed_ip(call.options["-add_ip"])
        self.read_repositories()
        return ""

    # Properties

    def _set_property(self, call: Call) -> str:
        if "-dict" in call.options:
            pairs = split_list(call.options["-dict"])
            objects = call.positional
        elif "-name" in call.options:
            pairs = [call.options["-name"], call.options.get("-value", "")]
            objects = (call.options.get("-objects", " ".join(call.positional)),)
        else:
            pairs, objects = list(call.positional[:2]), call.positional[2:]
        if len(pairs) % 2 or not pairs or len(objects) != 1:
            text = f"set_property gets {len(pairs)} words of names and values, and {len(objects)} objects"
            self.note("wrong-arguments", text, "names and values in pairs, then the object")
            return ""
        for target in split_list(objects[0]) or [""]:
            for name, value in zip(pairs[::2], pairs[1::2], strict=True):
                self._set_one(target, name, value)
        return ""

    def _set_one(self, target: str, name: str, value: str) -> None:
        if self.set_block_design_property(target, name, value):
            return
        kind = self._kind_of(target)
        if kind is None:
            self.note("unknown-object", f"set_property {name} has no object '{target[:80]}'", "name one that exists")
            return
        patterns = _PROPERTIES[kind]
        found = next((p for p in patterns if re.fullmatch(p, name.lower())), None)
        if found is None:
            known = ", ".join(patterns)
            self.note("unknown-setting", f"a {kind} has no property '{name}'", f"known are {known}")
        elif not re.fullmatch(patterns[found], value, re.DOTALL):
            self.note("wrong-value", f"the {kind}'s property {name} is '{value[:80]}'", f"form {patterns[found]}")
        elif name.lower() == "ip_repo_paths":
            self.repositories = split_list(value)
            for path in self.repositories:
                self.needs_file(path)
        elif name.lower() == "top":
            self._top = value

    def _kind_of(self, target: str) -> str | None:
        if target == self._project and target:
            return "project"
        if target in _RUNS:
            return "run"
        if target.endswith((".bd", ".v", ".xdc", ".vhd", ".sv", ".dcp", ".xci")):
            return "file"
        return "fileset" if target in ("sources_1", "sim_1", "constrs_1") else None

    def _get_property(self, call: Call) -> str:
        if len(call.positional) != 2:
            self.note("wrong-arguments", f"get_property {' '.join(call.positional)}", "a name, then an object")
            return ""
        name, target = call.positional
        found = self.block_design_property(target, name)
        if found is not None:
            return found
        values = {
            ("run", "progress"): "100%" if self._done.get(target) else "0%",
            ("run", "status"): "write_bitstream Complete!",
            ("run", "needs_refresh"): "0",
            ("run", "directory"): f"{self._folder}/{self._project}.runs/{target}",
            ("project", "board_part_repo_paths"): "",
            ("project", "ip_repo_paths"): tcl_list(self.repositories),
            ("project", "directory"): self._folder,
            ("project", "part"): "",
            ("project", "name"): self._project,
            ("fileset", "top"): self._top,
        }
        key = (self._kind_of(target) or "", name.lower())
        if key not in values:
            self.note("unknown-setting", f"'{target[:80]}' has no property {name}", "name one that the model knows")
            return ""
        return values[key]

    # Files

    def _get_files(self, call: Call) -> str:
        pattern = call.positional[0] if call.positional else "*"
        found = [name for name in self._all_sources() if fnmatch.fnmatch(name, f"*{pattern.lstrip('./')}")]
        if not found and "-quiet" not in call.options:
            self.note("unknown-object", f"the project has no file '{pattern}'", "correct the name")
        return tcl_list(found)

    def _all_sources(self) -> list[str]:
        if self.diagram is None:
            return self._sources
        return [*self._sources, self._diagram_path()]

    def _diagram_path(self) -> str:
        name = "" if self.diagram is None else self.diagram.name
        return f"{self._folder}/{self._project}.srcs/sources_1/bd/{name}/{name}.bd"

    def _add_files(self, call: Call) -> str:
        self._needs_project("add_files")
        for name in split_list(call.positional[0]):
            if self.needs_file(name):
                self._sources.append(name)
        return ""

    def _update_compile_order(self, call: Call) -> str:
        if call.options.get("-fileset", "sources_1") not in ("sources_1", "sim_1"):
            self.note("unknown-object", f"there is no fileset {call.options['-fileset']}", "name sources_1 or sim_1")
        return ""

    def _make_wrapper(self, call: Call) -> str:
        target = call.options.get("-files", " ".join(call.positional))
        if self.diagram is None or target != self._diagram_path():
            self.note("unknown-object", f"make_wrapper has no block design '{target}'", "name the .bd file")
            return ""
        if "-top" not in call.options:
            self.note("missing-option", "make_wrapper lacks -top", "give it")
        if call.options.get("-fileset", "sources_1") != "sources_1":
            self.note("unknown-object", f"there is no fileset {call.options['-fileset']}", "name sources_1")
        self.finish_diagram()
        self._was_used = True
        name = f"{self.diagram.name}_wrapper"
        for tree in ("srcs", "gen"):
            self.files.make(f"{self._folder}/{self._project}.{tree}/sources_1/bd/{self.diagram.name}/hdl/{name}.v")
        if "-import" in call.options:
            self._sources.append(f"{name}.v")
        self._top = name
        return f"{name}.v"

    def _generate_target(self, call: Call) -> str:
        what, target = call.positional
        if what not in ("all", "synthesis", "simulation", "instantiation_template"):
            self.note("wrong-value", f"generate_target gets '{what}'", "name all, synthesis or simulation")
        if self.diagram is None or target != self._diagram_path():
            self.note("unknown-object", f"generate_target has no block design '{target}'", "name the .bd file")
            return ""
        self.finish_diagram()
        name = self.diagram.name
        for tree in ("srcs", "gen"):
            self.files.make(f"{self._folder}/{self._project}.{tree}/sources_1/bd/{name}/hw_handoff/{name}.hwh")
        return ""

    # Runs

    def _get_runs(self, call: Call) -> str:
        pattern = call.positional[0] if call.positional else "*"
        found = [run for run in _RUNS if fnmatch.fnmatch(run, pattern)]
        if not found and "-quiet" not in call.options:
            self.note("unknown-object", f"there is no run '{pattern}'", "name synth_1 or impl_1")
        return " ".join(found)

    def _check_run(self, command: str, run: str) -> bool:
        self._needs_project(command)
        if run not in _RUNS:
            self.note("unknown-object", f"{command} has no run '{run}'", "name synth_1 or impl_1")
        return run in _RUNS

    def _launch_runs(self, call: Call) -> str:
        if self._is_known and not self._sources:
            self.note("order", "launch_runs without a source", "call make_wrapper and add_files first")
        for run in call.positional:
            if self._check_run("launch_runs", run):
                step = call.options.get("-to_step")
                if run == "synth_1" and step not in (None, "synth_design"):
                    self.note("wrong-value", f"{run} has no step {step}", "give -to_step to impl_1")
                if step == "write_bitstream":
                    self.files.make(f"{self._folder}/{self._project}.runs/{run}/{self._top}.bit")
                self._done[run] = "launched"
        return ""

    def _wait_on_run(self, call: Call) -> str:
        for run in call.positional:
            if self._check_run(call.command, run) and run not in self._done:
                self.note("order", f"{call.command} {run} before launch_runs", "launch it first")
            self._done[run] = "waited"
        return ""

    def _reset_run(self, call: Call) -> str:
        self._check_run(call.command, call.positional[0])
        self._done.pop(call.positional[0], None)
        return ""

    def _open_run(self, call: Call) -> str:
        run = call.positional[0]
        if self._check_run("open_run", run) and self._done.get(run) != "waited":
            self.note("order", f"open_run {run} before it has ended", "call launch_runs and wait_on_run first")
        self._opened_run = True
        return ""

    def _report(self, call: Call) -> str:
        if not self._opened_run:
            self.note("order", f"{call.command} without an open design", "call open_run first")
        if "-file" in call.options:
            self._write(call.options["-file"])
        return ""

    def _write_bitstream(self, call: Call) -> str:
        self._write(call.positional[0])
        return ""

    def _write(self, name: str) -> None:
        if not self.files.is_folder(str(self.files.path(name).parent)):
            self.note("missing-file", f"there is no folder for '{name}'", "make it first: file mkdir")
        elif not is_of_kind(name, "path"):
            self.note("wrong-value", f"'{name}' is no path", "correct it")
        self.files.make(name)
