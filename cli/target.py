# SPDX-License-Identifier: Apache-2.0
"""The options that say on which overlay a command works."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import click

from hetfab.cli.output import Result
from hetfab.overlay.errors import TargetInvalidError

if TYPE_CHECKING:
    from hetfab.driver.board.address import Address
    from hetfab.driver.target import Target
    from hetfab.overlay.design import Design

_P = ParamSpec("_P")


def read_target(context: click.Context, option: click.Parameter, value: str) -> "Address":
    """Callback of ``--to``: reads its text.

    Raises:
        click.BadParameter: It is no target.
    """
    from hetfab.driver.board.address import parse_address

    try:
        return parse_address(value)
    except TargetInvalidError as error:
        raise click.BadParameter(f"{error.found}; expected {error.expected}; {error.do}", context, option) from error


def place_options(callback: Callable[_P, Result]) -> Callable[_P, Result]:
    """Adds ``--to`` and ``--package``."""
    options = (
        click.option(
            "--to",
            default="emulated",
            callback=read_target,
            show_default=True,
            help="emulated, or where a package's overlay is: local, ssh://[user@]host[:port], remote://host[:port].",
        ),
        click.option("--package", help="With another --to than emulated, the overlay's package: a path or a name."),
    )
    for option in reversed(options):
        callback = option(callback)
    return callback


def target_options(callback: Callable[_P, Result]) -> Callable[_P, Result]:
    """Adds ``--to``, ``--package`` and ``--design``."""
    design = click.option("--design", type=click.Path(path_type=Path), help="Design of the emulated overlay.")
    return place_options(design(callback))


def chosen_target(to: "Address", design: "Path | Design | None", package: str | None) -> "Target":
    """The overlay that the options name.

    Args:
        to: Where it is.
        design: Of the emulated overlay, None for the default one.
        package: Of any other overlay.

    Raises:
        click.UsageError: They do not go together.
        HetfabError: The design or the package cannot be read, or nothing runs there.
    """
    from hetfab.driver.board.address import Way
    from hetfab.driver.target import board_target, emulated_target, local_target

    emulated = to.way is Way.EMULATED
    if emulated == (package is not None) or (isinstance(design, Path) and not emulated):
        raise click.UsageError("--package goes with another --to than emulated, --design with --to emulated.")
    if package is None:
        return emulated_target(design)
    return local_target(package) if to.way is Way.LOCAL else board_target(to, package)
