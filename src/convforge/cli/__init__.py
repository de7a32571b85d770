"""The ``convforge`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; without the ``cli`` extra, say how to get it."""
    try:
        from convforge.cli.app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("rich", "typer"):
            raise
        sys.exit(
            f"the convforge command needs {error.name}, which is not installed: "
            "pip install 'convforge[cli]'"
        )
    app()
