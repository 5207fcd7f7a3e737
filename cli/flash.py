# SPDX-License-Identifier: Apache-2.0
"""``hetfab flash``: a package's overlay into a board's fabric."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from hetfab.cli.output import Result, common_options, print_next, print_table
from hetfab.cli.target import read_target

if TYPE_CHECKING:
    from hetfab.driver.board.address import Address


@click.command()
@click.argument("package")
@click.option(
    "--to", required=True, callback=read_target, help="local, ssh://[user@]host[:port], jtag or remote://host[:port]."
)
@common_options
def command(package: str, to: "Address") -> Result:
    """Load the overlay of PACKAGE, a path or a name, into a board's fabric, and compare what runs there."""
    from hetfab.driver.board.address import Way
    from hetfab.driver.flash import flash
    from hetfab.driver.package import find_package

    found = find_package(package)
    flashed = flash(found, to)
    if flashed.board:
        print_table(["of the board", "value"], [[name, value or "-"] for name, value in flashed.board.items()])
        click.echo()
    if flashed.checksums:
        print_table(["file", "SHA-256 on the board"], [[f"{found.name}.{s}", h] for s, h in flashed.checksums.items()])
        was = f"{flashed.copied:,} bytes copied" if flashed.copied else "the board had the package: nothing was copied"
        click.echo(f"{was}\n")
    if flashed.registers:
        print_table(
            ["register", "found", "expected"],
            [[row.register, f"{row.found:#x}", f"{row.expected:#x}"] for row in flashed.registers],
        )
        click.echo(f"\n'{found.name}' is loaded, and is what its package says")
        print_next(f"hetfab run PROGRAM --graph GRAPH --to {to} --package {package}")
    else:
        click.echo(f"'{found.name}' is loaded, as far as openFPGALoader says; nobody has read its registers")
        if to.way is Way.JTAG:
            print_next(f"on the board: hetfab selftest --to local --package {found.name}")
    return {
        "package": found.name,
        "kind": found.kind.value,
        "board": found.design.board,
        "to": str(to),
        "copied_bytes": flashed.copied,
        "sha256": flashed.checksums,
        "registers": [asdict(row) for row in flashed.registers],
        "board_says": flashed.board,
    }
