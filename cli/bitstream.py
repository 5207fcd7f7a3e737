# SPDX-License-Identifier: Apache-2.0
"""``hetfab bitstream``: lists bitstreams that others built, downloads one, or describes one's own for others."""

from pathlib import Path
from typing import Any

import click

from hetfab.cli.output import Result, common_options, print_next, print_table


@click.command()
@click.argument("package", required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder of packages; overlays without."
)
@click.option("--selftest", type=click.Path(path_type=Path), help="Describe: what `hetfab selftest --json` printed.")
@click.option("--url", help="Describe: where the .bit file will be.")
@click.option("--tool", help="Describe: what wrote the bitstream, such as 'Vivado 2024.1'.")
@click.option("--builder", help="Describe: who ran it.")
@common_options
def command(
    package: str | None,
    output: Path | None,
    selftest: Path | None,
    url: str | None,
    tool: str | None,
    builder: str | None,
) -> Result:
    """List bitstreams, download that of PACKAGE, or describe the one in PACKAGE for others."""
    described = (selftest, url, tool, builder)
    if None in described and any(described):
        raise click.UsageError("--selftest, --url, --tool and --builder go together.")
    if package is None:
        if output is not None or selftest is not None:
            raise click.UsageError("Name a PACKAGE.")
        return _list()
    if selftest is not None:
        return _describe(package, output, selftest, url or "", tool or "", builder or "")
    from hetfab.driver.bitstreams import fetch

    found = fetch(package, output or Path("overlays"))
    click.echo(f"bitstream of '{found.name}' in {found.bit}: size, MD5 and SHA-256 are those that were promised")
    print_next(f"hetfab selftest --to local --package {found.bit.parent}")
    return {"package": str(found.bit.parent), "name": found.name, "bit": str(found.bit)}


def _list() -> Result:
    from hetfab.driver.bitstreams import listed

    rows: list[dict[str, Any]] = []
    for each in listed():
        said, origin = each.description, each.description and each.description.origin
        rows.append(
            {
                "name": each.path.stem,
                "board": said.design.board if said else "",
                "kind": said.kind.value if said else "",
                "tool": origin.tool if origin else "",
                "builder": origin.builder if origin else "",
                "vectors": sum(origin.vectors.values()) if origin else 0,
                "state": each.problem or ("here" if each.here else "to be downloaded"),
                "sha256": said.sha256["bit"] if said else "",
            }
        )
    if rows:
        columns = {name: name for name in rows[0] if name != "sha256"} | {"vectors": "self-test vectors"}
        print_table(list(columns.values()), [[row[name] for name in columns] for row in rows])
    else:
        click.echo("no packages: none in the folders of HETFAB_OVERLAYS, in overlays, arrived over ssh, or with hetfab")
    return {"bitstreams": rows}


def _describe(package: str, output: Path | None, selftest: Path, url: str, tool: str, builder: str) -> Result:
    from hetfab.driver.bitstreams import describe, read_report
    from hetfab.driver.package import find_package

    if output is None:
        raise click.UsageError("-o names the folder for what is contributed.")
    said = describe(
        find_package(package), tool=tool, builder=builder, report=read_report(selftest), url=url, folder=output
    )
    click.echo(f"description, handoff and link of '{said.name}' in {output / said.name}")
    print_next(f"put the .bit file where {url} leads, then hetfab bitstream {output / said.name}")
    return {"output": str(output / said.name), "name": said.name, "sha256": dict(said.sha256)}
