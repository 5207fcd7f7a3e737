# SPDX-License-Identifier: Apache-2.0
"""What the models of both tools share: looking a command up, files, and the list of problems."""

from collections.abc import Callable, Sequence

from hetfab.hls.tcl_check.commands import Call, Command, commands_of, sort_words
from hetfab.hls.tcl_check.files import Files
from hetfab.hls.tcl_check.interpreter import ScriptEndedError, ScriptError
from hetfab.hls.tcl_check.problem import Problem, Tool

Handler = Callable[[Call], str]
#: What only the interpreter calls.
_BEYOND = ("file", "source", "unknown")


class Session:
    """A tool at work: commands come in, problems are noted, the script goes on as far as it can.

    Args:
        tool: Whose commands are known.
        version: Release of the tool.
        parts: FPGAs that may be named.
        files: What the script sees.
    """

    def __init__(self, tool: Tool, version: str, parts: frozenset[str], files: Files) -> None:
        self.version = version
        self.files = files
        self.problems: list[Problem] = []
        self._parts = parts
        self._commands: dict[str, Command] = commands_of(tool)
        self._tool = tool
        self._line = 0
        self._handlers: dict[str, Handler] = {"exit": self._exit, "quit": self._exit, "pwd": self._pwd}
        self._handlers |= {"cd": self._cd, "glob": self._glob}

    @property
    def names(self) -> list[str]:
        """Names of the commands that the model serves."""
        return list(self._commands)

    def note(self, check: str, text: str, fix: str) -> None:
        """Notes a problem of the line at hand, once."""
        problem = Problem(check, self._line, text, fix)
        if problem not in self.problems:
            self.problems.append(problem)

    def answer(self, words: Sequence[str]) -> str:
        """Serves a command of the script.

        Raises:
            ScriptError: It fails in the script.
            ScriptEndedError: The script ends.
        """
        name, line, *arguments = words
        self._line = int(line) or self._line
        if name in _BEYOND:
            return {"file": self._file, "source": self._source, "unknown": self._unknown}[name](arguments)
        call, complaints = sort_words(self._commands[name], arguments)
        for complaint in complaints:
            self.note(complaint.check, complaint.text, complaint.fix)
        if complaints:
            return ""
        handler = self._handlers.get(name)
        return handler(call) if handler else ""

    def check_part(self, part: str) -> None:
        """Notes a part that may not be named."""
        if part.lower() not in self._parts:
            self.note("unknown-part", f"there is no part '{part}'", "known are " + ", ".join(sorted(self._parts)))

    def needs_file(self, name: str) -> bool:
        """Notes a file or folder that does not exist."""
        if self.files.exists(name):
            return True
        self.note("missing-file", f"there is no file '{name}'", "correct the path")
        return False

    def end(self) -> None:
        """Looks at what the script leaves behind."""

    def _unknown(self, words: Sequence[str]) -> str:
        if words[0] == "":
            # A command in brackets of its own: the tools let its empty result pass as a command.
            return ""
        self.note(
            "unknown-command",
            f"{self._tool.value} has no command '{words[0][:80]}'",
            "correct the name, or add it to the table in hls/tcl_check/tables with a public script that has it",
        )
        return ""

    def _exit(self, call: Call) -> str:
        if call.positional and call.positional[0] != "0":
            self.note("exit-status", f"the script ends with status {call.positional[0]}", "see what it printed")
        raise ScriptEndedError("exit")

    def _pwd(self, _: Call) -> str:
        return str(self.files.working)

    def _cd(self, call: Call) -> str:
        if call.positional and not self.files.change(call.positional[0]):
            self.note("missing-file", f"there is no folder '{call.positional[0]}'", "correct the path")
        return ""

    def _glob(self, call: Call) -> str:
        found = [name for pattern in call.positional for name in self.files.matching(pattern)]
        if not found and "-nocomplain" not in call.options:
            raise ScriptError("no files matched glob pattern " + " ".join(call.positional))
        return " ".join(found)

    def _source(self, arguments: Sequence[str]) -> str:
        names = [word for word in arguments if word not in ("-notrace", "-quiet")]
        if len(names) != 1 or not self.files.path(names[0]).is_file():
            self.note("missing-file", f"source has no file '{' '.join(names)}'", "correct the path")
            raise ScriptError(f'couldn\'t read file "{" ".join(names)}"')
        return str(self.files.path(names[0]))

    def _file(self, words: Sequence[str]) -> str:
        subcommand, *arguments = words
        names = [word for word in arguments if word not in ("-force", "--")]
        tests = {"exists": self.files.exists, "isfile": self.files.is_file, "isdirectory": self.files.is_folder}
        tests |= {"exist": self.files.exists, "readable": self.files.exists}
        if subcommand in tests and len(names) == 1:
            return str(int(tests[subcommand](names[0])))
        if subcommand == "normalize" and len(names) == 1:
            return str(self.files.path(names[0]))
        if subcommand == "mkdir":
            for name in names:
                self.files.make_folder(name)
            return ""
        if subcommand == "delete":
            for name in names:
                self.files.delete(name)
            return ""
        if subcommand in ("copy", "rename") and len(names) == 2:
            self._copy(subcommand, *names)
            return ""
        self.note("wrong-arguments", f"file {' '.join(words)[:120]}", "use a subcommand of file that the model knows")
        return ""

    def _copy(self, subcommand: str, source: str, target: str) -> None:
        if not self.needs_file(source):
            return
        if self.files.is_folder(target):
            target = f"{target}/{self.files.path(source).name}"
        elif not self.files.is_folder(str(self.files.path(target).parent)):
            self.note("missing-file", f"there is no folder for '{target}'", "make it first: file mkdir")
            return
        if self.files.is_folder(source):
            self.files.make_folder(target)
        else:
            self.files.make(target)
        if subcommand == "rename":
            self.files.delete(source)
