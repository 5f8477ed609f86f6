"""Relations between the machine and the world: the table plane seen by a camera."""
