"""Comparisons that cannot run say so, in one form, and are counted."""

from __future__ import annotations

import sys

import pytest

from convforge.testing import peers


def test_an_installed_peer_is_returned():
    assert peers.require("numpy").__name__ == "numpy"


def test_a_missing_peer_skips_with_a_reason():
    with pytest.raises(pytest.skip.Exception) as caught:
        peers.require("no_such_framework")
    assert str(caught.value) == "comparison not run: no_such_framework is not installed"


def test_a_broken_peer_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "broken_framework.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        peers.require("broken_framework")
    sys.modules.pop("broken_framework", None)


def test_summary_counts_by_reason():
    reasons = [
        "('a.py', 3, 'Skipped: comparison not run: jax is not installed')",
        "('b.py', 3, 'Skipped: comparison not run: jax is not installed')",
        "('c.py', 3, 'Skipped: comparison not run: torch is not installed')",
        "('d.py', 3, 'Skipped: no GPU')",
    ]
    line = peers.summary(reasons)
    assert line == (
        "comparisons with other frameworks not run: 2 because jax is not installed; "
        "1 because torch is not installed"
    )
    assert peers.summary([]).endswith("not run: none")
