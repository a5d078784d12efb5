"""``python -m cryobench.cli``."""

from cryobench.cli import main

main()
