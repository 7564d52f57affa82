"""The program of a Butler process: ``python -m autoingest.butler KIND``; see `autoingest.butler.child_process`."""

import gc

# What is imported stays. The collector would walk through it time and again, for a fifth of the time that it takes.
gc.disable()

from .serve import main  # noqa: E402

main()
