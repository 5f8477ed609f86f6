"""The HTTP API: a process of its own that can be flooded or killed without the arm noticing."""
