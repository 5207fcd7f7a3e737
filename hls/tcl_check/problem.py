# SPDX-License-Identifier: Apache-2.0
"""What the Tcl model finds wrong in a script."""

import enum
from dataclasses import dataclass


class Tool(enum.Enum):
    """The tool that a script is for."""

    VITIS_HLS = "vitis_hls"
    VIVADO = "vivado"


@dataclass(frozen=True)
class Problem:
    """A breach of a check.

    Attributes:
        check: Name of the check, such as ``unknown-command``.
        line: Line of the script, 0 where it belongs to none.
        text: What is wrong.
        fix: What to do.
    """

    check: str
    line: int
    text: str
    fix: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.check}: {self.text}; {self.fix}"
