"""Measurements behind ``so101 bench``."""
