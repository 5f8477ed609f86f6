"""Relations between the machine and the world: servos, camera lenses, the table plane."""
