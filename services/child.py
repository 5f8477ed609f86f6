"""Start of a child process: ``python -m services.child PARENT_PID NICE MODULE ARGUMENTS...``.

Binds the child to its supervisor before anything else runs, so that none outlives it, and then becomes
the module. Doing this in the child instead of between fork and exec is safe however many threads the
parent has.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

from robot.realtime import give_way

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel terminate this process when its parent dies, whatever it dies of."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the line above
        raise SystemExit("the supervisor is gone")


def main(arguments: list[str]) -> None:
    """Bind to the parent, give way to the controller by ``NICE``, run the module."""
    parent_pid, nice, module = int(arguments[0]), int(arguments[1]), arguments[2]
    die_with_parent(parent_pid)
    if nice > 0:
        give_way(nice)
    sys.argv = [module, *arguments[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
