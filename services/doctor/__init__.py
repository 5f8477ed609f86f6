"""``so101 doctor``: looks at everything of a robot, says what is wrong, and what to do about it."""
