"""Scripted demonstrators on the twin. No torch."""
