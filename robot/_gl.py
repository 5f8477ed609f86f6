"""Which library renders without a screen."""

from __future__ import annotations

import ctypes
import os
import sys

_LIBRARIES = (("egl", "libEGL.so.1"), ("osmesa", "libOSMesa.so.8"))


def choose_gl_backend() -> str | None:
    """Set ``MUJOCO_GL`` to a library that is there, unless the user has chosen. Linux only.

    Returns:
        The backend, or ``None`` where there is nothing to render with.
    """
    chosen = os.environ.get("MUJOCO_GL")
    if chosen or not sys.platform.startswith("linux"):
        return chosen
    for backend, library in _LIBRARIES:
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        os.environ["MUJOCO_GL"] = backend
        return backend
    return None
