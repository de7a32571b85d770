"""Whether operations are recorded, for each thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Mode(threading.local):
    recording = True


_mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations of this thread are recorded."""
    return _mode.recording


@contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing inside the block, or inside the function it decorates."""
    yield from _recording(False)


@contextmanager
def enable_grad() -> Iterator[None]:
    """Record again inside the block, or inside the function it decorates."""
    yield from _recording(True)


def _recording(on: bool) -> Iterator[None]:
    before = _mode.recording
    _mode.recording = on
    try:
        yield
    finally:
        _mode.recording = before
