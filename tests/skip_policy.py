# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: every skip names what is absent, counts are printed, and any other skip fails the run.

A reason reads ``<kind>: <text>``. Only things that a test machine may rightly lack have a kind; a missing
compiler or package is a broken machine, not a reason to skip. Activate it with
``PYTHONPATH=tests pytest -p skip_policy``.
"""

from collections import Counter

import pytest

KINDS = {
    "vendor": "a vendor's tool",
    "board": "a board",
    "data": "a data set that is not part of the repository",
    "cpu": "a CPU feature",
    "python": "another Python version",
}


class SkipPolicy:
    """Collects the reasons of skipped tests and modules."""

    def __init__(self) -> None:
        self.skips: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An expected failure is reported as skipped too, but it ran.
        if report.skipped and not hasattr(report, "wasxfail"):
            self._add(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._add(report)

    def violations(self) -> list[tuple[str, str]]:
        return [(test, reason) for test, reason in self.skips if _kind(reason) not in KINDS]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        passed = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        # Workers of pytest-xdist leave the verdict to their controller.
        if passed and self.violations() and not hasattr(session.config, "workerinput"):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("skips by reason")
        counts = Counter(_kind(reason) for _, reason in self.skips)
        for kind, meaning in KINDS.items():
            terminalreporter.write_line(f"{kind:8}{counts[kind]:5}  without {meaning}")
        for reason, count in sorted(Counter(reason for _, reason in self.skips).items()):
            terminalreporter.write_line(f"  {count:5} x {reason}")
        for test, reason in self.violations():
            terminalreporter.write_line(
                f"FAILED {test}: skipped because '{reason}', which is none of: {', '.join(KINDS)}", red=True
            )

    def _add(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        self.skips.append((report.nodeid, reason.removeprefix("Skipped: ")))


def _kind(reason: str) -> str:
    return reason.partition(":")[0]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SkipPolicy(), "skip-policy")
