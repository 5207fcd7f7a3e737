# SPDX-License-Identifier: Apache-2.0
"""``hetfab selftest``: every instruction of the loaded overlay in every mode, against the golden model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hetfab.cli.output import Result, common_options, print_table, progress
from hetfab.cli.target import chosen_target, target_options

if TYPE_CHECKING:
    from hetfab.driver.board.address import Address
    from hetfab.driver.target import Target


@click.command()
@target_options
@common_options
def command(to: "Address", design: Path | None, package: str | None) -> Result:
    """Test every instruction of an overlay in every mode, and name the engine that is wrong."""
    target = chosen_target(to, design, package)
    from hetfab.driver.selftest.run import selftest
    from hetfab.driver.selftest.vectors import vectors

    wanted = vectors(target.design.geometry)
    with progress("selftest", len(wanted)) as advance:
        outcome = selftest(target.open, wanted, progress=advance)
    print_table(
        ["engine", "vectors", "differ"],
        [[engine, count, outcome.failed.get(engine, 0)] for engine, count in outcome.vectors.items()],
    )
    outcome.check()
    click.echo(f"\n{target.name} gives what the golden model gives, in every bit")
    return {"target": target.name, **_tested(target), **outcome.as_dict()}


def _tested(target: "Target") -> dict[str, Any]:
    """What was tested: the design's identity alone is the same for a bitstream and for an emulated overlay."""
    from hetfab.overlay.package import Kind

    package = target.package
    return {
        "identity": target.design.identity,
        "way": target.way.value,
        "kind": (package.kind if package else Kind.EMULATED).value,
        "sha256": {"bit": package.bit_sha256} if package else None,
    }
