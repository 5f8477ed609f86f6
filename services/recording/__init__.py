"""The recorder's session: what was asked for, its states, and the process around it."""
