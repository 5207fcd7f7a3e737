# SPDX-License-Identifier: Apache-2.0
"""``hetfab cache``: the folder of built overlays, its size, and how to empty it."""

import click

from hetfab.cli.output import Result, common_options
from hetfab.overlay.errors import counted


@click.command()
@click.option("--clear", is_flag=True, help="Delete all built overlays; they are built again on next use.")
@common_options
def command(clear: bool) -> Result:
    """Show or empty the cache of built overlays."""
    from hetfab.hls.build.cache import cache_content, cache_folder, clear_cache

    files = cache_content()
    size = sum(file.stat().st_size for file in files)
    if clear:
        clear_cache()
    click.echo(
        f"{cache_folder()}: {counted(len(files), 'file')}, {counted(size, 'byte')}" + (", deleted" if clear else "")
    )
    return {"folder": str(cache_folder()), "files": len(files), "bytes": size, "cleared": clear}
