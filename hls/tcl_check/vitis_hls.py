# SPDX-License-Identifier: Apache-2.0
"""A model of Vitis HLS: a project, a solution, synthesis, export, in the order that the tool wants."""

import re
import shlex
from pathlib import Path

from hetfab.hls.tcl_check.commands import Call
from hetfab.hls.tcl_check.files import Files
from hetfab.hls.tcl_check.problem import Tool
from hetfab.hls.tcl_check.session import Session
from hetfab.hls.tcl_check.values import is_of_kind
from hetfab.overlay.blockdesign.build import DISPATCH, hls_vlnv
from hetfab.overlay.isa.spec import isa

#: Clock periods beyond these, in ns, are a slip: no part runs faster, no design slower.
_FASTEST, _SLOWEST = 1.0, 100.0
#: The shortest for an engine: no board's processor gives the fabric more than 500 MHz.
_ENGINE_FASTEST = 2.0
_COMPILER_OPTION = re.compile(r"-(std=(c|gnu)\+\+(0x|11|14|17|20)|[IDU]\S+|W[\w-]+|O[0-3s]|g|f[\w-]+|include|isystem)")
#: What hetfab's own kernels do not compile without.
_ENGINE_FLAGS = frozenset({"-std=c++17", "-DHETFAB_AP_INT"})
#: Without which a kernel that has black boxes does not call them.
_BOX_FLAG = "-DHETFAB_PLANE_BOXES"
#: Headers that the tool brings.
_TOOL_HEADERS = ("ap_", "hls_", "hls/", "math.h", "cmath", "utils/", "etc/ap_")
_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
_DEFINE = re.compile(r"^\s*#\s*define\s+(\w+)", re.MULTILINE)
# A part without conditions inside it: those of our kernels have none.
_PART_IF_DEFINED = re.compile(r"^\s*#\s*ifdef\s+(\w+)\s*\n((?:(?!\s*#\s*(?:if|el|endif)).*\n)*)", re.MULTILINE)


class VitisHls(Session):
    """A run of Vitis HLS."""

    def __init__(self, version: str, parts: frozenset[str], files: Files) -> None:
        super().__init__(Tool.VITIS_HLS, version, parts, files)
        self._close()
        self._handlers |= {
            "open_project": self._open_project,
            "open_component": self._open_component,
            "open_solution": self._open_solution,
            "close_project": lambda _: self._close(),
            "close_component": lambda _: self._close(),
            "set_top": self._set_top,
            "set_directive_top": self._set_directive_top,
            "add_files": self._add_files,
            "set_part": self._set_part,
            "create_clock": self._create_clock,
            "set_clock_uncertainty": self._uncertainty,
            "csim_design": self._needs_solution,
            "csynth_design": self._csynth_design,
            "cosim_design": self._cosim_design,
            "export_design": self._export_design,
        }

    def end(self) -> None:
        """A project whose design was never synthesised, or not simulated either, was opened for nothing."""
        if not self._used:
            self.note("unfinished", "the script neither synthesises nor simulates", "call csynth_design")

    _used = False

    def _close(self) -> str:
        self._project: str | None = None
        self._solution: str | None = None
        self._top = ""
        self._sources: list[str] = []
        self._flags: list[str] = []
        self._boxed = False
        self._part = False
        self._clock: float | None = None
        self._synthesised = False
        return ""

    def _open_project(self, call: Call) -> str:
        self._close()
        self._project = call.positional[0]
        self.files.make_folder(self._project)
        return ""

    def _open_component(self, call: Call) -> str:
        self._open_project(call)
        self._solution = self._project
        return ""

    def _open_solution(self, call: Call) -> str:
        if self._project is None:
            self.note("order", "open_solution without a project", "call open_project first")
        else:
            self._solution = f"{self._project}/{call.positional[0]}"
            self.files.make_folder(self._solution)
        return ""

    def _needs_project(self, command: str) -> None:
        if self._project is None:
            self.note("order", f"{command} without a project", "call open_project first")

    def _needs_solution(self, call: Call) -> str:
        self._used = True
        if self._solution is None:
            self.note("order", f"{call.command} without a solution", "call open_solution first")
        if not self._sources:
            self.note("order", f"{call.command} without a source", "call add_files first")
        return ""

    def _set_top(self, call: Call) -> str:
        self._needs_project("set_top")
        self._top = call.positional[0]
        return ""

    def _set_directive_top(self, call: Call) -> str:
        self._top = call.options.get("-name", call.positional[0])
        return ""

    def _add_files(self, call: Call) -> str:
        self._needs_project("add_files")
        for option in ("-cflags", "-csimflags"):
            self._check_flags(option, call.options.get(option, ""))
        flags = shlex.split(call.options.get("-cflags", ""))
        for name in call.positional[0].split():
            if self.needs_file(name) and "-tb" not in call.options and "-blackbox" not in call.options:
                self._sources.append(name)
                self._flags += flags
                self._check_includes(self.files.path(name), flags)
            self._boxed |= "-blackbox" in call.options
            if "-blackbox" in call.options and not name.endswith(".json"):
                self.note("black-box", f"the black box '{name}' is no JSON file", "name its description")
        return ""

    def _check_includes(self, source: Path, flags: list[str]) -> None:
        """Files that a source includes in quotes lie beside it or in a folder of the compiler's options."""
        folders = [self.files.path(flag[2:]) for flag in flags if flag.startswith("-I") and len(flag) > 2]
        defined = {flag[2:].split("=")[0] for flag in flags if flag.startswith("-D")}
        left, seen = [source], {source}
        while left:
            path = left.pop()
            text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
            for name in _INCLUDE.findall(_without_undefined_parts(text, defined)):
                found = [place / name for place in (path.parent, *folders) if (place / name).is_file()]
                if not found and not name.startswith(_TOOL_HEADERS):
                    self.note("missing-include", f"'{name}' of {path.name} is in no folder", "add it with -I")
                left += [each for each in found[:1] if each not in seen]
                seen |= set(found[:1])

    def _check_flags(self, option: str, flags: str) -> None:
        words = shlex.split(flags)
        for number, word in enumerate(words):
            follows = number and words[number - 1] in ("-I", "-D", "-include", "-isystem")
            if not follows and word not in ("-I", "-D") and not _COMPILER_OPTION.fullmatch(word):
                self.note("compiler-option", f"{option} has '{word}'", "name options of the compiler: -I, -D, -std")
            folder = word[2:] if word.startswith("-I") and len(word) > 2 else ""
            if folder and not self.files.is_folder(folder):
                self.note("missing-file", f"{option} names the folder '{folder}', which is not there", "correct it")

    def _set_part(self, call: Call) -> str:
        self.check_part(call.positional[0].strip("{}"))
        self._part = True
        return ""

    def _create_clock(self, call: Call) -> str:
        text = call.options["-period"]
        value = float(text.removesuffix("ns").removesuffix("MHz"))
        self._clock = 1000 / value if text.endswith("MHz") and value else value
        if not _FASTEST <= self._clock <= _SLOWEST:
            self.note("clock-period", f"a clock period of {text}", f"from {_FASTEST:g} to {_SLOWEST:g} ns")
        if call.positional and call.positional != ("default",):
            self.note("wrong-arguments", f"create_clock gets '{call.positional[0]}'", "give -period and -name")
        return ""

    def _uncertainty(self, call: Call) -> str:
        text = call.positional[0]
        if not is_of_kind(text, "uncertainty"):
            self.note("wrong-value", f"set_clock_uncertainty gets '{text}'", "a time in ns or a share in %")
            return ""
        if self._clock is None:
            self.note("order", "set_clock_uncertainty without a clock", "call create_clock first")
            return ""
        value = float(text.rstrip("%ns"))
        share = value / 100 if text.endswith("%") else value / self._clock
        if share >= 1:
            self.note("clock-period", f"an uncertainty of {text} is the whole period", "make it shorter")
        if call.positional[1:] not in ((), ("default",)):
            self.note("unknown-object", f"there is no clock '{call.positional[1]}'", "name 'default'")
        return ""

    def _csynth_design(self, call: Call) -> str:
        self._needs_solution(call)
        missing = [name for name, there in (("set_top", self._top), ("set_part", self._part)) if not there]
        if self._clock is None:
            missing.append("create_clock")
        for name in missing:
            self.note("order", f"csynth_design before {name}", f"call {name} first")
        self._check_top()
        self._synthesised = True
        if self._solution is not None:
            self.files.make_folder(f"{self._solution}/syn/verilog")
            self.files.make(f"{self._solution}/syn/report/{self._top}_csynth.xml")
        return ""

    def _check_top(self) -> None:
        """The top function must be in a source, where all of them can be read."""
        paths = [self.files.path(name) for name in self._sources]
        if not self._top or not paths or not all(path.is_file() for path in paths):
            return
        if not any(
            re.search(rf"\b{self._top}\s*\(", path.read_text(encoding="utf-8", errors="replace")) for path in paths
        ):
            self.note(
                "missing-top", f"no source defines the top function '{self._top}'", "correct set_top or add_files"
            )

    def _cosim_design(self, call: Call) -> str:
        self._needs_solution(call)
        self._needs_synthesis("cosim_design")
        return ""

    def _needs_synthesis(self, command: str) -> None:
        if not self._synthesised:
            self.note("order", f"{command} before csynth_design", "call csynth_design first")

    def _export_design(self, call: Call) -> str:
        self._needs_solution(call)
        self._needs_synthesis("export_design")
        output = call.options.get("-output")
        if output is None:
            self.files.make(f"{self._solution}/impl/export.zip")
            return ""
        if not output.endswith((".zip", ".xo")):
            self.note("wrong-value", f"export_design -output is '{output}'", "name a .zip file")
        elif not self.files.is_folder(str(self.files.path(output).parent)):
            self.note("missing-file", f"there is no folder for '{output}'", "make it first")
        self.files.make(output)
        self._check_own_export(call, output)
        return ""

    def _check_own_export(self, call: Call, output: str) -> None:
        """The block design finds an engine's IP by its VLNV, and its file by the engine's name."""
        engine = self._top.removesuffix("_top")
        if self._top != f"{engine}_top" or engine not in (DISPATCH, *(each.name for each in isa().engines)):
            return
        vlnv = ":".join(call.options.get(name, "") for name in ("-vendor", "-library", "-ipname", "-version"))
        if vlnv != hls_vlnv(engine) or self.files.path(output).stem != engine:
            text = f"{self._top} becomes the IP {vlnv} in '{output}'"
            self.note("engine-export", text, f"the block design expects {hls_vlnv(engine)} in {engine}.zip")
        if self._clock is not None and self._clock < _ENGINE_FASTEST:
            self.note("clock-period", f"{self._top} has {self._clock:g} ns", f"{_ENGINE_FASTEST:g} ns or more")
        missing = sorted(_ENGINE_FLAGS - set(self._flags))
        if missing:
            text = f"{self._top} is compiled without {' '.join(missing)}"
            self.note("engine-export", text, "give -cflags: the kernels are C++17 over exact widths")
        if self._boxed and _BOX_FLAG not in self._flags:
            text = f"{self._top} has black boxes and is compiled without {_BOX_FLAG}"
            self.note("engine-export", text, "give it in -cflags: without it the kernel calls no black box")


def _without_undefined_parts(text: str, defined: set[str]) -> str:
    """A source without what follows an ``#ifdef`` of a name that neither the options nor the source define."""
    known = defined | set(_DEFINE.findall(text))
    return _PART_IF_DEFINED.sub(lambda part: part[0] if part[1] in known else "", text)
