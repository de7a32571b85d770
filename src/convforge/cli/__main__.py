"""``python -m convforge.cli``."""

from convforge.cli import main

main()
