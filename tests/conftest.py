from __future__ import annotations

import contextlib
import signal

from hypothesis import settings

# Triton, which torch loads late, and Mesa, which renders the twin, each bring an LLVM, and a process that
# loads Mesa's first crashes. Shipped commands never have both.
with contextlib.suppress(ImportError):
    import torch._dynamo  # noqa: F401

# No example fails because the machine was busy.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# A shell that starts the suite in the background has Ctrl-C ignored, in all its children too.
signal.signal(signal.SIGINT, signal.default_int_handler)
