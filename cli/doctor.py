# SPDX-License-Identifier: Apache-2.0
"""``hetfab doctor``: what is installed, what programs can run on here, and what is missing for the rest."""

from dataclasses import asdict

import click

from hetfab.cli.output import Result, common_options, print_table


@click.command()
@common_options
def command() -> Result:
    """Show what is installed and which targets are possible."""
    from hetfab.driver.doctor import findings, targets

    found = findings()
    possible = targets(found)
    print_table(
        ["what", "found", "needed for"],
        [[x.name, x.found or f"missing: {x.install}", x.needed_for] for x in found],
    )
    click.echo()
    print_table(
        ["target", "possible", "missing"], [[x.name, "yes" if x.possible else "no", x.missing] for x in possible]
    )
    return {"findings": [asdict(x) for x in found], "targets": [asdict(x) for x in possible]}
