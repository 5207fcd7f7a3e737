# SPDX-License-Identifier: Apache-2.0
"""The entry of the command line: finds the command, runs it, and turns what happens into an exit status.

``hetfab --help`` imports no command, so it needs nothing beyond click. A command's file holds a
``click.Command`` named ``command``, made with ``@click.command()`` and ``@output.common_options``; its
callback prints for people and returns what ``--json`` prints.
"""

import contextlib
import enum
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import click

from hetfab.cli import output
from hetfab.overlay.errors import HetfabError, PackageMissingError


class ExitCode(enum.IntEnum):
    """What the exit status means. Errors of hetfab carry theirs as ``exit_code``."""

    DONE = 0
    INPUT = 1
    USAGE = 2
    ENVIRONMENT = 3
    FAILED = 4
    INTERRUPTED = 130


@dataclass(frozen=True)
class Entry:
    """A row of the table of commands: the module that holds ``command``, and one line of help."""

    module: str
    help: str


#: Every command, in the order in which a user meets them.
COMMANDS: dict[str, Entry] = {
    "graph": Entry("hetfab.cli.graph", "Show what a graph holds; convert or draw it."),
    "lift": Entry("hetfab.cli.lift", "Turn a PyTorch Geometric export into graph operators."),
    "inspect": Entry("hetfab.cli.inspect", "Show a model's layers and what its inputs mean."),
    "quantize": Entry("hetfab.cli.quantize", "Turn a float model into an integer one."),
    "search": Entry("hetfab.cli.search", "Search a design and widths for models, a board and a time."),
    "convert": Entry("hetfab.cli.convert", "Read a model quantized elsewhere, write one for plain runtimes."),
    "compile": Entry("hetfab.cli.compile", "Turn a quantized model into a program for an overlay."),
    "build": Entry("hetfab.cli.build", "Build the bitstream of a design with Vitis HLS and Vivado."),
    "bitstream": Entry("hetfab.cli.bitstream", "List, download or describe bitstreams that others built."),
    "flash": Entry("hetfab.cli.flash", "Load an overlay package into a board's fabric."),
    "run": Entry("hetfab.cli.run", "Run a program on a graph."),
    "compare": Entry("hetfab.cli.compare", "Compare all tensors of a model, quantized and on the overlay."),
    "demo": Entry("hetfab.cli.demo", "Take a small model on a generated graph through all steps."),
    "selftest": Entry("hetfab.cli.selftest", "Test every instruction of an overlay in every mode."),
    "calibrate": Entry("hetfab.cli.calibrate", "Measure constants of the timing model on an overlay."),
    "lint": Entry("hetfab.cli.lint", "Check HLS sources, hetfab's own kernels without any."),
    "doctor": Entry("hetfab.cli.doctor", "Show what is installed and what programs can run on here."),
    "cache": Entry("hetfab.cli.cache", "Show or empty the cache of built overlays."),
}


class _LazyGroup(click.Group):
    """Lists the commands from the table and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name].module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every command takes --json for programs. Exit status: 0 done, 1 the input is wrong, 2 usage, "
    "3 the environment lacks something, 4 the run failed, 130 interrupted.",
)
@click.version_option(package_name="hetfab", message="hetfab %(version)s")
def hetfab() -> None:
    """Heterogeneous graph neural networks on heterogeneous FPGA fabric."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    With ``--json`` stdout receives exactly one JSON object, the command's result or ``{"error": ...}``, and
    everything else goes to stderr.

    Args:
        arguments: Without the program's name; those of the process when left out.

    Returns:
        The exit status.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Read here and not by click, since a usage error must obey them too.
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = "--json" in options
    stdout = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr if as_json else stdout):
            result = hetfab.main(arguments, prog_name="hetfab", standalone_mode=False)
        if isinstance(result, int):
            return result
        if as_json:
            output.write_json(result, stdout)
        return ExitCode.DONE
    except KeyboardInterrupt:
        return _report(click.Abort(), as_json)
    except Exception as error:  # The one place that must catch all: an unknown failure still gets words.
        if "--debug" in options or os.environ.get("HETFAB_DEBUG"):
            traceback.print_exc(file=sys.stderr)
        return _report(error, as_json)


def _report(error: Exception, as_json: bool) -> int:
    """Prints a failure for people or for programs and returns the exit status."""
    failure = _describe(error)
    if as_json:
        output.write_json({"error": failure.as_dict()}, sys.stdout)
    elif isinstance(error, click.UsageError):
        error.show()
    else:
        output.print_error(failure)
    return failure.exit_code


def _describe(error: Exception) -> HetfabError:
    """Puts any exception into the form of the one exception tree."""
    if isinstance(error, HetfabError):
        return error
    if isinstance(error, click.UsageError):
        return _usage(error)
    if isinstance(error, click.Abort):
        return _InterruptedError("interrupted", "the command to run to its end", "start it again")
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != "hetfab":
        package = error.name.partition(".")[0]
        return PackageMissingError(
            f"the Python package '{package}' is not installed",
            "the packages that this command needs",
            f"pip install {package}; a board only runs programs, another machine does the rest",
        )
    return _UnexpectedError(
        f"{type(error).__name__}: {error}",
        "no failure here: this is a defect of hetfab",
        "please report it with the command and the output of the same command with --debug",
    )


class _UsageError(HetfabError):
    code = "usage"
    exit_code = ExitCode.USAGE


class _InterruptedError(HetfabError):
    code = "interrupted"
    exit_code = ExitCode.INTERRUPTED


class _UnexpectedError(HetfabError):
    code = "unexpected"
    exit_code = ExitCode.FAILED


def _usage(error: click.UsageError) -> _UsageError:
    context = error.ctx
    path = context.command_path if context else "hetfab"
    expected = " ".join(context.get_usage().removeprefix("Usage:").split()) if context else "hetfab COMMAND"
    return _UsageError(error.format_message().splitlines()[0], expected, f"{path} --help")


if __name__ == "__main__":
    sys.exit(main())
