"""Comparisons with other frameworks, which run where these are installed."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

_PREFIX = "comparison not run: "


def require(name: str) -> Any:
    """Import a peer, or skip the calling test (or module) with a reason of one uniform form."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        pytest.skip(f"{_PREFIX}{name} is not installed", allow_module_level=True)


def summary(skip_reasons: Iterable[str]) -> str:
    """One line that counts the comparisons that did not run, by reason."""
    # Skips are reported as the text of a tuple, hence the quote and bracket behind the reason.
    reasons = (reason.partition(_PREFIX)[2].rstrip("')") for reason in skip_reasons)
    counts = Counter(reason for reason in reasons if reason)
    causes = "; ".join(f"{count} because {why}" for why, count in sorted(counts.items()))
    return f"comparisons with other frameworks not run: {causes or 'none'}"
