"""Networks that turn an observation into a chunk of actions."""
