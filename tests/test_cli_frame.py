# SPDX-License-Identifier: Apache-2.0
"""The frame of the command line: exit statuses, errors for people and for programs, lazy loading."""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from hetfab.cli import main as frame
from hetfab.cli import output
from hetfab.overlay import errors

PROBE = '''
import sys
import time
import click
from hetfab.cli import output
from hetfab.overlay import errors

@click.command()
@click.argument("behaviour")
@click.option("--count", type=int, default=1)
@output.common_options
def command(behaviour, count):
    """Probe."""
    print("a line for people")
    match behaviour:
        case "done":
            output.print_table(["node type", "count"], [["paper", 3025]])
            output.print_next("hetfab run")
        case "input": raise errors.GraphInvalidError("id 7", "ids below 5", "correct the ids")
        case "environment": raise errors.CompilerMissingError("no g++", "a compiler", "install g++")
        case "run": raise errors.DeadlockError("stuck", "progress", "see the dump")
        case "defect": raise KeyError("lost")
        case "package": import no_such_package.part
        case "not-json": return {"value": float("nan")}
        case "interrupt": raise KeyboardInterrupt
        case "wait":
            print("ready", file=sys.stderr, flush=True)
            time.sleep(30)
    return {"count": count}
'''

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the frame with a command ``probe`` and returns status, stdout and stderr."""
    (tmp_path / "probe_command.py").write_text(PROBE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(frame.COMMANDS, "probe", frame.Entry("probe_command", "Probe the frame."))
    monkeypatch.delenv("HETFAB_DEBUG", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        status = frame.main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    yield call
    sys.modules.pop("probe_command", None)


def test_a_command_prints_for_people_on_stdout(run: Run) -> None:
    status, out, err = run("probe", "done")
    assert (status, err) == (0, "")
    assert out == ("a line for people\nnode type  count\n---------  -----\npaper      3,025\nnext: hetfab run\n")


def test_json_leaves_one_object_on_stdout_and_the_rest_on_stderr(run: Run) -> None:
    status, out, err = run("probe", "done", "--count", "3", "--json")
    assert status == 0
    assert out == '{"count": 3}\n'
    assert "a line for people" in err and "next: hetfab run" in err


@pytest.mark.parametrize(
    ("behaviour", "status", "text"),
    [
        ("input", 1, "error: id 7\n  expected: ids below 5\n  do: correct the ids\n"),
        ("environment", 3, "error: no g++\n  expected: a compiler\n  do: install g++\n"),
        ("run", 4, "error: stuck\n  expected: progress\n  do: see the dump\n"),
        (
            "interrupt",
            130,
            "error: interrupted\n  expected: the command to run to its end\n  do: start it again\n",
        ),
        (
            "defect",
            4,
            "error: KeyError: 'lost'\n  expected: no failure here: this is a defect of hetfab\n"
            "  do: please report it with the command and the output of the same command with --debug\n",
        ),
        (
            "package",
            3,
            "error: the Python package 'no_such_package' is not installed\n"
            "  expected: the packages that this command needs\n"
            "  do: pip install no_such_package; a board only runs programs, another machine does the rest\n",
        ),
    ],
)
def test_errors_for_people(run: Run, behaviour: str, status: int, text: str) -> None:
    found, out, err = run("probe", behaviour)
    assert found == status
    assert out == "a line for people\n"
    assert err.lstrip("\n") == text  # click ends the line of a ^C first


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        ("input", 1, "graph-invalid"),
        ("environment", 3, "compiler-missing"),
        ("run", 4, "deadlock"),
        ("defect", 4, "unexpected"),
        ("package", 3, "package-missing"),
        ("not-json", 4, "unexpected"),
        ("interrupt", 130, "interrupted"),
    ],
)
def test_errors_for_programs(run: Run, behaviour: str, status: int, code: str) -> None:
    found, out, err = run("probe", behaviour, "--json")
    assert found == status
    error = json.loads(out)["error"]
    assert list(json.loads(out)) == ["error"] and list(error) == ["code", "found", "expected", "do"]
    assert error["code"] == code and all(error.values())
    assert "a line for people" in err and "Traceback" not in err


def test_a_usage_error_for_people(run: Run) -> None:
    status, out, err = run("probe", "done", "--count", "many")
    assert (status, out) == (2, "")
    assert "Usage: hetfab probe [OPTIONS] BEHAVIOUR" in err
    assert "'many' is not a valid integer" in err


@pytest.mark.parametrize(
    ("arguments", "found", "expected", "do"),
    [
        (
            ("probe", "--json"),
            "Missing argument 'BEHAVIOUR'.",
            "hetfab probe [OPTIONS] BEHAVIOUR",
            "hetfab probe --help",
        ),
        (
            ("prob", "--json"),
            "No such command 'prob'.",
            "hetfab [OPTIONS] COMMAND [ARGS]...",
            "hetfab --help",
        ),
    ],
)
def test_a_usage_error_for_programs(run: Run, arguments: tuple[str, ...], found: str, expected: str, do: str) -> None:
    status, out, _ = run(*arguments)
    error: dict[str, Any] = json.loads(out)["error"]
    assert status == 2
    assert error.pop("found").startswith(found.rstrip("."))
    assert error == {"code": "usage", "expected": expected, "do": do}


def test_json_after_two_dashes_is_an_argument(run: Run) -> None:
    status, out, _ = run("probe", "--", "--json")
    assert (status, out) == (0, "a line for people\n")


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_traceback_is_printed_on_demand(run: Run, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "variable":
        monkeypatch.setenv("HETFAB_DEBUG", "1")
    status, _, err = run("probe", "defect", *(["--debug"] if how == "option" else []))
    assert status == 4
    assert "Traceback (most recent call last)" in err and "error: KeyError: 'lost'" in err


def test_ctrl_c_ends_a_command_in_words(tmp_path: Path) -> None:
    (tmp_path / "probe_command.py").write_text(PROBE, encoding="utf-8")
    program = (
        # As in a terminal: a shell lets what it starts in the background ignore the signal, and children inherit that.
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from hetfab.cli import main as frame; frame.COMMANDS['probe'] = frame.Entry('probe_command', ''); "
        "sys.exit(frame.main(['probe', 'wait', '--json']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while process.stderr.readline() != "ready\n":
        assert process.poll() is None, "the command ended before it was interrupted"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert json.loads(out)["error"]["code"] == "interrupted"
    assert "Traceback" not in err


def test_help_lists_the_table_and_loads_nothing(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    for name, entry in frame.COMMANDS.items():
        assert f"  {name} " in out and entry.help in out
    assert "130\n  interrupted." in out or "130 interrupted." in " ".join(out.split())
    assert "probe_command" not in sys.modules


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_start_up_imports_neither_commands_nor_heavy_packages(option: str) -> None:
    program = (
        f"import sys; from hetfab.cli.main import COMMANDS, main; status = main(['{option}']); "
        "print(*sys.modules, sep='\\n', file=sys.stderr); sys.exit(status)"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in process.stderr.split()}
    assert not loaded & {"numpy", "onnx", "onnxruntime", "scipy", "rich", "qonnx", "jinja2", "joblib"}
    assert not {entry.module for entry in frame.COMMANDS.values()} & set(process.stderr.split())
    assert process.stdout.startswith("hetfab 0." if option == "--version" else "Usage: hetfab ")


def test_every_command_of_the_table_is_there_and_takes_the_common_options() -> None:
    for name, entry in frame.COMMANDS.items():
        command = importlib.import_module(entry.module).command
        assert isinstance(command, click.Command)
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--json", "--debug"} <= options, f"'{name}' lacks @output.common_options"
        assert command.get_short_help_str(limit=200), f"'{name}' has no docstring"


def _tree(kind: type[errors.HetfabError]) -> Iterator[type[errors.HetfabError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def test_every_error_has_a_code_of_its_own_and_a_documented_exit_status() -> None:
    kinds = [kind for kind in _tree(errors.HetfabError) if kind.__module__ == errors.__name__]
    assert len({kind.code for kind in kinds}) == len(kinds) > 30
    assert {kind.exit_code for kind in kinds} == {1, 3, 4}


def test_an_error_of_several_lines_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_error(errors.OperatorsUnsupportedError("two operators:\nTopK\nIf", "others", "rewrite"))
    assert capsys.readouterr().err == ("error: two operators:\n    TopK\n    If\n  expected: others\n  do: rewrite\n")


def test_a_table_aligns_numbers_to_the_right() -> None:
    table = output.format_table(["layer", "edges", "share"], [["a", 1234567, 0.5], ["conv", 8, 12.34567]])
    assert table.splitlines() == [
        "layer      edges  share",
        "-----  ---------  -----",
        "a      1,234,567    0.5",
        "conv           8  12.35",
    ]
    missing = output.format_table(["a", "b", "c"], [[1, "-", "-"], ["-", "x", "-"], [1000, "y", "-"]]).splitlines()
    assert [line.split(" ")[0] for line in missing] == ["", "-----", "", "", "1,000"], "'-' stands for a number"
    assert missing[3] == "    -  x  -"
    assert output.format_table(["empty"], []) == "empty\n-----"


class _Terminal:
    """A stderr that says it is a terminal and keeps what is written."""

    def __init__(self) -> None:
        self.text = ""
        self.encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_progress_appears_on_a_terminal_for_long_work_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    shown = {}
    for name, after in (("short", 60.0), ("long", 0.0)):
        terminal = _Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(output, "PROGRESS_AFTER_SECONDS", after)
        with output.progress("building the overlay", 4) as advance:
            while name == "long" and "building the overlay" not in terminal.text:
                advance(0)
            advance(4)
        shown[name] = terminal.text
    assert shown["short"] == ""
    assert "building the overlay" in shown["long"]


def test_progress_is_silent_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress("building") as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")
