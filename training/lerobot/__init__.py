"""LeRobot's ACT checkpoints: read, converted, written."""
