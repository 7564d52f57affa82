"""``python -m autoingest``."""

from .cli import main

main()
