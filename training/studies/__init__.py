"""Comparisons of policies, each reproduced by one command and written down under docs/studies."""
