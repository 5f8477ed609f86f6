"""Main modules of the child processes."""

from __future__ import annotations

import os

# Each of these processes has a core to share, not one to fill: matrices of six need no second thread.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
