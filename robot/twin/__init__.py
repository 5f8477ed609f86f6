"""The digital twin: a MuJoCo world behind emulated servos and rendered cameras."""
