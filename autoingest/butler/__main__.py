"""The program of a Butler process: ``python -m autoingest.butler KIND``; see `autoingest.butler.child_process`."""

import gc

# Everything imported stays in memory; scanning it again and again would take a fifth of the import time.
gc.disable()

from .serve import main  # noqa: E402

main()
