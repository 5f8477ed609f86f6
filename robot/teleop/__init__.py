"""People who drive the arm: their intents, the leader arm, and what makes a takeover smooth."""
