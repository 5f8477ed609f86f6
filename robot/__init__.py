"""The arm: registers, packets, bus, cameras, kinematics, gate, controller. No torch, no HTTP, no model."""

from robot._gl import choose_gl_backend

# MuJoCo settles its GL backend when it is first imported, so this comes before any of our modules.
choose_gl_backend()
