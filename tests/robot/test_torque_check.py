"""When the controller asks the servos whether they still have torque."""

from __future__ import annotations

from robot.controller import TORQUE_CHECK_S

from controller_rig import DT_S, Rig  # isort: skip

PERIOD = round(TORQUE_CHECK_S / DT_S)


class Watch:
    """A controller at its ready pose, and the ticks in which it asks."""

    def __init__(self) -> None:
        self.rig = Rig().go("ready")
        self.asked = False
        limp_joints = self.rig.arm.limp_joints

        def noted() -> tuple[str, ...]:
            self.asked = True
            return limp_joints()

        self.rig.arm.limp_joints = noted  # type: ignore[method-assign]

    def until_asked(self, read_s: float) -> int:
        """Ticks until the servos are asked, where a read takes so long."""

        def take_time() -> None:
            self.rig.clock.time_s += read_s

        self.rig.arm.on_read = take_time
        self.asked = False
        for tick in range(1, 3 * PERIOD):
            self.rig.ticks(1)
            if self.asked:
                return tick
        raise AssertionError("never asked")


def test_it_waits_for_a_tick_whose_read_was_quick_but_not_for_ever() -> None:
    watch = Watch()
    watch.until_asked(0.0)
    assert watch.until_asked(0.0) == PERIOD
    assert watch.until_asked(0.5 * DT_S) == 2 * PERIOD
    watch.rig.ticks(PERIOD + 2)  # put off
    assert watch.until_asked(0.0) == 1
