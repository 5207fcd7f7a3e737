# SPDX-License-Identifier: Apache-2.0
"""The options that say on which overlay a command works."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import click

from hetfab.cli.output import Result

if TYPE_CHECKING:
    from hetfab.driver.target import Target

_P = ParamSpec("_P")
_EMULATED, _LOCAL = "emulated", "local"


def target_options(callback: Callable[_P, Result]) -> Callable[_P, Result]:
    """Adds ``--to``, ``--design`` and ``--package``."""
    options = (
        click.option(
            "--to",
            type=click.Choice([_EMULATED, _LOCAL]),
            default=_EMULATED,
            show_default=True,
            help="The emulated overlay, or that of this machine over pynq.",
        ),
        click.option("--design", type=click.Path(path_type=Path), help="Design of the emulated overlay."),
        click.option("--package", help="With --to local, the overlay's package: a path or a name."),
    )
    for option in reversed(options):
        callback = option(callback)
    return callback


def chosen_target(to: str, design: Path | None, package: str | None) -> "Target":
    """The overlay that the options name.

    Raises:
        click.UsageError: They do not go together.
        HetfabError: The design or the package cannot be read.
    """
    if (to == _LOCAL) != (package is not None) or (to == _LOCAL and design is not None):
        raise click.UsageError("--to local goes with --package, --design with --to emulated.")
    from hetfab.driver.target import emulated_target, local_target

    return emulated_target(design) if package is None else local_target(package)
