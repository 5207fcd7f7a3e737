# SPDX-License-Identifier: Apache-2.0
"""``hetfab lint``: HLS sources checked against what synthesis tools take, and this project's own rules."""

from dataclasses import asdict
from pathlib import Path

import click

from hetfab.cli.output import Result, common_options
from hetfab.overlay.errors import counted


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--house", is_flag=True, help="Hold PATHS to the rules of hetfab's kernels too.")
@click.option("-I", "--include", multiple=True, type=click.Path(path_type=Path), help="Folder that PATHS include from.")
@click.option("-D", "--define", multiple=True, metavar="NAME[=VALUE]", help="Macro for PATHS.")
@click.option("--design", type=click.Path(path_type=Path), help="Without PATHS: design of the kernels.")
@common_options
def command(
    paths: tuple[Path, ...], house: bool, include: tuple[Path, ...], define: tuple[str, ...], design: Path | None
) -> Result:
    """Check HLS sources: PATHS, files or folders that compile together; hetfab's kernels without any."""
    from hetfab.hls.lint.packages import check_packages

    check_packages()
    from hetfab.hls.lint.run import lint, lint_kernels
    from hetfab.overlay.design import default_design, read_design

    if paths:
        report = lint(paths, house=house, include=include, defines=define)
    else:
        chosen = default_design() if design is None else read_design(design)
        report = lint_kernels(chosen.geometry, chosen.stages)
    report.check()
    click.echo(
        f"{counted(report.sources, 'file')} with {counted(report.functions, 'function')} "
        f"keep {counted(report.rules, 'rule')}"
    )
    return asdict(report)
