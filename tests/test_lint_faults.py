# SPDX-License-Identifier: Apache-2.0
"""Each rule of the lint catches its seeded fault by name, nothing else does, and the repaired source passes."""

from pathlib import Path

import pytest

from hetfab.hls.lint.rules import RULES
from hetfab.hls.lint.run import lint
from tests.lint_faults import FAULTS, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_seeded_fault_is_caught_by_its_rule_alone(fault: Fault, tmp_path: Path) -> None:
    source = tmp_path / "engine.cpp"
    source.write_text(fault.source, encoding="utf-8")
    findings = lint([source], house=True).findings
    assert {finding.rule for finding in findings} == {fault.rule}, findings
    assert any(fault.found in finding.found for finding in findings), findings
    assert all(finding.file == str(source) and finding.line > 0 for finding in findings)


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_the_repaired_source_passes(fault: Fault, tmp_path: Path) -> None:
    source = tmp_path / "engine.cpp"
    source.write_text(fault.repaired, encoding="utf-8")
    assert lint([source], house=True).findings == ()


def test_every_rule_has_a_seeded_fault() -> None:
    assert {rule.id for rule in RULES} == {fault.rule for fault in FAULTS}
