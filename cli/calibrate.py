# SPDX-License-Identifier: Apache-2.0
"""``hetfab calibrate``: constants of the timing model, measured on an overlay."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hetfab.cli.output import Result, common_options, print_table
from hetfab.cli.target import chosen_target, target_options

if TYPE_CHECKING:
    from hetfab.driver.board.address import Address


@click.command()
@target_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File of measured constants, in place of the user's own."
)
@common_options
def command(to: "Address", design: Path | None, package: str | None, output: Path | None) -> Result:
    """Measure constants of the timing model, and write them where modelled times read them.

    Of the emulated overlay, whose time is the model's, nothing is written without --output.
    """
    target = chosen_target(to, design, package)
    import datetime

    from hetfab.driver.board.address import Way
    from hetfab.driver.calibration.fit import calibrate
    from hetfab.driver.calibration.stopwatch import measured_cycles, modelled_cycles
    from hetfab.overlay.errors import TargetInvalidError
    from hetfab.overlay.files import check_outputs
    from hetfab.overlay.timeline.machine import constants, constants_file, save_measured

    if target.way not in (Way.EMULATED, Way.LOCAL):
        raise TargetInvalidError(
            f"{target.name} is reached over a link, whose time would be measured too",
            "an overlay of this machine, or the emulated one",
            "run this on the board with --to local",
        )
    emulated = target.way is Way.EMULATED
    file = output or (None if emulated else constants_file())
    check_outputs({"--output": output}, {"--design": design})
    origin = f"measured on {target.name} at {target.design.clock_mhz:g} MHz, {datetime.date.today().isoformat()}"
    take = modelled_cycles if emulated else measured_cycles
    session = target.open()
    try:
        found = calibrate(target.design, lambda program, repeats: take(session, program, repeats), origin)
    finally:
        session.transport.close()
    defaults = constants()
    print_table(
        ["constant", "measured", "modelled", "unit"],
        [[c.name, c.value, defaults[c.name].value, c.unit] for c in found.constants],
    )
    click.echo()
    print_table(["not measured", "since"], sorted(found.left.items()))
    click.echo()
    print_table(["check, cycles", "measured", "expected"], [[c.name, c.measured, c.expected] for c in found.checks])
    if file is not None:
        save_measured(file, target.design.board, found.constants)
        click.echo(f"\nconstants of the board '{target.design.board}' in {file}")
    return {
        "target": target.name,
        "board": target.design.board,
        "constants": [asdict(constant) for constant in found.constants],
        "left": found.left,
        "checks": [asdict(check) for check in found.checks],
        "file": None if file is None else str(file),
    }
