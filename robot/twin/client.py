"""A live twin as a child process: for the service, the tests and the benchmarks."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from robot.errors import TwinError
from robot.mailbox import MailboxClient, from_json, to_json
from robot.seams import FloatArray
from robot.twin import child

START_TIMEOUT_S = 90.0
ANSWER_TIMEOUT_S = 5.0
END_PATIENCE_S = 3 * child.PATIENCE_S
"""Longer than the twin's own patience for the process of its cameras: nothing of it is to be left behind."""


class TwinControl:
    """The control socket of a live twin.

    Args:
        path: ``control`` in the twin's JSON line.
    """

    def __init__(self, path: str | Path) -> None:
        self._mailbox = MailboxClient(Path(path))

    def truth(self) -> dict[str, Any]:
        """What is where, see ``World.truth``. For tests, evaluation and the twin's own HTTP call only."""
        return self._do("truth")

    def place_cube(self, x_m: float, y_m: float, yaw_rad: float = 0.0) -> dict[str, Any]:
        """Put the cube down; returns the new truth. Raises TwinError for a point off the table."""
        return self._do("place_cube", x_m=x_m, y_m=y_m, yaw_rad=yaw_rad)

    def place_confuser(self, x_m: float, y_m: float) -> dict[str, Any]:
        """Put the confuser down; returns the new truth. Raises TwinError for a point off the table."""
        return self._do("place_confuser", x_m=x_m, y_m=y_m)

    def remove_confuser(self) -> dict[str, Any]:
        """Take the confuser away; returns the new truth."""
        return self._do("remove_confuser")

    def place_board(
        self, position_m: Sequence[float], rotation: Sequence[float] | None = None, before: str | None = None
    ) -> dict[str, Any]:
        """Show the printed board, see ``World.place_board``; flat on the table without a rotation."""
        values: dict[str, Any] = {} if rotation is None else {"rotation": [float(q) for q in rotation]}
        return self._do("place_board", position_m=[float(m) for m in position_m], before=before, **values)

    def place_marker(self, marker: int, x_m: float, y_m: float, yaw_rad: float = 0.0) -> dict[str, Any]:
        """Lay the middle of a printed single marker on a point of the table."""
        return self._do("place_marker", marker=marker, x_m=x_m, y_m=y_m, yaw_rad=yaw_rad)

    def place_disc(self, x_m: float, y_m: float) -> dict[str, Any]:
        """Lay the middle of the disc on a point of the table."""
        return self._do("place_disc", x_m=x_m, y_m=y_m)

    def remove_disc(self) -> dict[str, Any]:
        """Take the disc away."""
        return self._do("remove_disc")

    def remove_props(self) -> dict[str, Any]:
        """Take board, markers and disc away."""
        return self._do("remove_props")

    def set_leader(self, user: FloatArray) -> dict[str, Any]:
        """A hand puts the leader into this pose, user units, shape (6,)."""
        return self._do("leader", user=np.asarray(user, dtype=np.float64).tolist())

    def hand(self, arm: str, user: FloatArray | None) -> dict[str, Any]:
        """A hand leads limp joints to a pose in user units, shape (6,), and holds them; ``None`` lets go."""
        return self._do("hand", arm=arm, user=None if user is None else np.asarray(user).tolist())

    def plug(self, arm: str, joints: Sequence[str] | None) -> dict[str, Any]:
        """Connect the cables of these joints' servos and no others, ``None`` all; what gets power boots."""
        return self._do("plug", arm=arm, joints=None if joints is None else list(joints))

    def reset(self, seed: int = 0) -> dict[str, Any]:
        """Servos rebooted, all faults over but what EEPROM keeps, arm parked, cube in front of it."""
        return self._do("reset", seed=seed)

    def fault(self, kind: str, **values: Any) -> dict[str, Any]:
        """Let something go wrong now, see :class:`robot.twin.faults.FaultEvent`.

        The answer's ``applied_s`` says when it had happened, on the monotonic clock.
        """
        return self._do("fault", kind=kind, **values)

    def goal_log(self, since_s: float = float("-inf")) -> list[dict[str, Any]]:
        """Goal writes that changed a goal after a monotonic time, oldest first, see ``GoalLog``.

        Each has ``arm``, ``servo_id``, ``time_s`` and ``goal`` in ticks. The newest 4096 are kept.
        """
        page = self._do("goal_log")
        goals: list[dict[str, Any]] = page["goals"]
        count = page["count"]  # what comes while this reads is left to the next call
        while page["next"] < count:
            page = self._do("goal_log", after=page["next"])
            goals += page["goals"]
        return [goal for goal in goals if goal["time_s"] > since_s]

    def _do(self, op: str, **values: Any) -> dict[str, Any]:
        reply = from_json(self._mailbox.request(to_json({"op": op, **values}), ANSWER_TIMEOUT_S))
        if not reply.pop("ok", False):
            raise TwinError(f"the twin refused {op}: {reply.get('message', 'it did not say why')}")
        return reply


class TwinProcess(TwinControl):
    """A live twin that is started here and ends with this object, or with this process.

    Args:
        seed: of what is drawn: which answers an unreliable bus spoils.
        delay_ms: of the cameras; 30 by default.
        cameras: whether there are any.
        faults: path of a script of faults.
        bare: nothing can be touched, see ``WorldConfig.bare``.
        factory: servos as they left the factory, see ``WorldConfig.factory``.
        timeout_s: how long it may take to start.

    Attributes:
        description: its JSON line.
        follower: serial port of the follower.
        leader: serial port of the leader.
        by_id: arm -> stable link to its port, as in ``/dev/serial/by-id``.
        cameras: camera name -> MJPEG address.
        pid: of the process with the servos.

    Raises:
        TwinError: it did not start; the message holds what it wrote to stderr.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        delay_ms: float = 30.0,
        cameras: bool = True,
        faults: Path | None = None,
        bare: bool = False,
        factory: bool = False,
        timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        arguments = ["--seed", str(seed), "--delay-ms", str(delay_ms), "--die-with-parent"]
        arguments += [] if cameras else ["--no-cameras"]
        arguments += ["--bare"] if bare else []
        arguments += ["--factory"] if factory else []
        arguments += [] if faults is None else ["--faults", str(faults)]
        # A file, not a pipe: nobody empties a pipe later, and a full one would stop the twin.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        self._last_words = ""
        self._process = child.start_module("robot.twin.live", arguments, stderr=self._stderr)
        try:
            self.description = child.read_json_line(self._process, timeout_s)
        except TwinError as error:
            self.close()
            raise TwinError(f"the twin did not start: {error}; {self.errors()}") from error
        self.follower: str = self.description["follower"]
        self.leader: str = self.description["leader"]
        self.by_id: dict[str, str] = self.description["by_id"]
        self.cameras: dict[str, str] = self.description["cameras"]
        self.pid = self._process.pid
        super().__init__(self.description["control"])

    def __enter__(self) -> TwinProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process with the world and the servos."""
        return self._process

    def errors(self) -> str:
        """What the twin has written to stderr so far."""
        if self._stderr.closed:
            return self._last_words
        # pread: the child writes through the same file offset.
        return os.pread(self._stderr.fileno(), 65536, 0).decode(errors="replace").strip()

    def close(self) -> None:
        """End the twin. Safe to call twice."""
        child.stop(self._process, END_PATIENCE_S)
        self._last_words = self.errors()
        self._stderr.close()
