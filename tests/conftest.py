"""What all tests share: property tests without deadlines, and a count of what could not run."""

from __future__ import annotations

import pytest
from hypothesis import settings

from convforge.testing import peers

# In CI this inherits Hypothesis's own profile for it: the same examples every time.
settings.register_profile("convforge", deadline=None)
settings.load_profile("convforge")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.write_line(peers.summary(str(report.longrepr) for report in skipped))
