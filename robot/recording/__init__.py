"""Episodes: written, read, replayed. No torch."""
