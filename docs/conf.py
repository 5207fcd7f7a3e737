# SPDX-License-Identifier: Apache-2.0
"""Settings of the documentation's site (``make docs``).

The pages are plain Markdown without directives, so that they read the same in a repository's browser. The navigation is
made of docs/index.md: a section of it is a part of the navigation, the pages that its tables link to are its entries.
"""

import re
from collections.abc import Iterator
from importlib.metadata import version as installed_version

from sphinx.application import Sphinx

project = "hetfab"
release = version = installed_version("hetfab")
project_copyright = "the authors of hetfab, Apache-2.0"
extensions = ["myst_parser"]
root_doc = "index"
html_theme = "furo"
html_title = "hetfab"
html_copy_source = False
html_show_sphinx = False
#: Anchors as the pages' links name them: those of a repository's browser.
myst_heading_anchors = 4

_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_ROW = re.compile(r"^\| \[[^\]]+\]\(([\w/-]+)\.md\)", re.MULTILINE)


def navigation(index: str) -> Iterator[tuple[str, list[str]]]:
    """Yields title and pages of each section of the index."""
    _, *parts = _SECTION.split(index)
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        yield title, _ROW.findall(text)


def _add_navigation(_: Sphinx, page: str, source: list[str]) -> None:
    if page == root_doc:
        source[0] += "".join(
            f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(pages) + "\n```\n"
            for title, pages in navigation(source[0])
        )


def setup(app: Sphinx) -> None:
    """Adds the navigation to the index when it is read."""
    app.connect("source-read", _add_navigation)
