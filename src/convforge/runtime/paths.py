"""Where things are kept on disk."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

import platformdirs


@cache
def cache_dir() -> Path:
    """The directory of compiled kernels: ``CONVFORGE_CACHE_DIR``, else the user's cache.

    A directory that cannot be written (a read-only home) is replaced by one in the system's
    temporary directory, which belongs to this user alone.
    """
    named = os.environ.get("CONVFORGE_CACHE_DIR")
    wanted = Path(named) if named else Path(platformdirs.user_cache_dir("convforge"))
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=wanted).close()
    except OSError:
        user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
        wanted = Path(tempfile.gettempdir()) / f"convforge-{user}"
        wanted.mkdir(mode=0o700, exist_ok=True)
    return wanted
