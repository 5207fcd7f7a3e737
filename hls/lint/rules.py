# SPDX-License-Identifier: Apache-2.0
"""All rules, in the order of docs/lint.md."""

from hetfab.hls.lint import bounds, interfaces, language, memories, order, pragmas, widths
from hetfab.hls.lint.findings import Rule

RULES: tuple[Rule, ...] = (
    *language.RULES,
    *bounds.RULES,
    *pragmas.RULES,
    *interfaces.RULES,
    *order.RULES,
    *memories.RULES,
    *widths.RULES,
)
