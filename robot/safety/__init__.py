"""What stands between any command and an arm that people are near. Pure: no I/O, no clock, no threads.

``gate`` limits each tick's command, ``supervision`` finds what is wrong in what the servos say, ``faults``
latches it and orders it by severity. Nothing here imports anything that could block.
"""
