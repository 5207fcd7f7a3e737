# SPDX-License-Identifier: Apache-2.0
"""Writes the files generated from the tables and the error tree, or with ``--check`` compares them.

Run as ``python -m hetfab.overlay.isa.generate`` in a source tree; the exit status of ``--check`` is 1 when a
file is stale.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from hetfab.overlay.files import write_atomic
from hetfab.overlay.isa.generate_cpp import counters_header, cpp_header, dispatch_top, exponentials_header
from hetfab.overlay.isa.generate_docs import counters_page, errors_page, isa_page
from hetfab.overlay.isa.generate_python import codec_text, counters_text
from hetfab.overlay.isa.generate_sets import sets_header
from hetfab.overlay.isa.spec import Isa, isa

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python -m hetfab.overlay.isa.generate"


def generated_files(tables: Isa) -> dict[str, str]:
    """Text of each generated file by its path in the source tree; C++ is always of the shipped tables."""
    return {
        "overlay/isa/codec.py": codec_text(tables),
        "overlay/isa/counters.py": counters_text(),
        "hls/include/hetfab/isa.hpp": cpp_header(),
        "hls/include/hetfab/counters.hpp": counters_header(),
        "hls/include/hetfab/exponentials.hpp": exponentials_header(),
        "hls/kernels/dispatch.cpp": dispatch_top(),
        "hls/build/sets.hpp": sets_header(),
        "docs/isa.md": isa_page(tables),
        "docs/counters.md": counters_page(),
        "docs/errors.md": errors_page(),
    }


def stale_files(tables: Isa, root: Path = ROOT) -> list[str]:
    """Paths of the generated files that are missing in the source tree ``root`` or differ from the tables."""
    return [
        name
        for name, text in generated_files(tables).items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != text
    ]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Writes or compares all generated files; returns the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write the files generated from the tables.")
    parser.add_argument("--check", action="store_true", help="compare only; exit status 1 if a file is stale")
    if parser.parse_args(arguments).check:
        stale = stale_files(isa(), root)
        for name in stale:
            print(f"{name} is stale; run: {COMMAND}", file=sys.stderr)
        return 1 if stale else 0
    for name, text in generated_files(isa()).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(root / name, partial(_write, text))
        print(f"wrote {name}")
    return 0


def _write(text: str, file: BinaryIO) -> None:
    file.write(text.encode("utf-8"))


if __name__ == "__main__":
    sys.exit(main())
