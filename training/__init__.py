"""Policies, losses, data, loop, export, experts, evaluation. Torch is imported only where a network is."""

import robot  # noqa: F401 - settles the GL backend before anything here imports MuJoCo
