"""A session at the terminal: keys and gamepad in, commands to the service out, the screen beside it.

The threads: one reads keys, one stops the arm, one streams intents, one asks how things are, and one does,
one after the other, what was asked for. None waits for another, the stop least of all.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from robot.errors import CommandError
from services.console import actions
from services.console.actions import Action
from services.console.arm import Arm
from services.console.client import ServiceClient, StopButton
from services.console.episodes import Episodes
from services.console.gamepad import Device, Gamepad
from services.console.jog import KeyJog
from services.console.screen import View
from services.console.status import Status, Watch, look
from services.console.streaming import JogStream
from services.console.terminal import Terminal
from services.recording.options import PickupPoint

if TYPE_CHECKING:
    from services.console.unattended import Unattended

Driver = Literal["leader", "keyboard", "gamepad", "dashboard", "expert"]
LOOK_S = 0.2
REMIND_S = 2.0
KEPT_S = 20.0
"""Longest wait for the last episodes to be committed; the service's end waits for them, too."""
PLAYER_S = 3.0
"""Longest wait for the expert to let go."""
SUSPEND_S = 1.0
"""Longest wait for the stop that goes out before the process is suspended."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session is.

    Attributes:
        driver: who drives.
        recording: whether a recorder is part of the service.
        corrections: a policy drives, the driver takes over.
        pickup: where the object lies; ``None`` asks the twin, where there is one.
        begins: whether it begins without a key.
        seconds: it ends so long after it began.
        seed: of what a session without a person draws.
        episodes: that a session without a person makes; ``None`` goes on until it is ended.
    """

    driver: Driver
    recording: bool = False
    corrections: bool = False
    pickup: PickupPoint | None = None
    begins: bool = False
    seconds: float | None = None
    seed: int = 0
    episodes: int | None = None

    @property
    def source(self) -> str:
        """What drives, in the API's words."""
        return "leader" if self.driver == "leader" else "teleop"

    @property
    def hints(self) -> tuple[str, ...]:
        """Keys, in words."""
        if self.driver == "expert":
            return (actions.EXPERT_HINT,)
        lines = [actions.RECORD_HINT if self.recording else actions.TELEOP_HINT]
        if self.driver == "keyboard":
            lines.append(actions.JOG_HINT)
        if self.driver == "gamepad":
            lines.append(actions.GAMEPAD_HINT)
        if self.corrections:
            lines.append(actions.CORRECT_HINT)
        return tuple(lines)


class Session:
    """One session with one service.

    Args:
        options: what it is.
        client: the service.
        view: shows it.
        end: asked for the end of everything, once.
        terminal_fd: where keys come from; ``None``: no keys.
        gamepad: the gamepad, where that drives.
    """

    def __init__(
        self,
        options: SessionOptions,
        client: ServiceClient,
        view: View,
        end: Callable[[], None],
        *,
        terminal_fd: int | None = None,
        gamepad: Device | None = None,
    ) -> None:
        self.options, self.client, self.view = options, client, view
        self.ended = threading.Event()
        self.status = Status()
        self.arm = Arm(client, options.source, self.ended)
        self.episodes = Episodes(self.arm, corrections=options.corrections, point=self._point, say=view.say)
        self._end, self._terminal_fd, self._device = end, terminal_fd, gamepad
        self._actions: queue.SimpleQueue[tuple[Action, int]] = queue.SimpleQueue()
        self._jog = KeyJog()
        self._pad: Gamepad | None = None
        self._stop = StopButton(client, view.say)
        self._stack = contextlib.ExitStack()
        self._worker = threading.Thread(target=self._run, name="session", daemon=True)
        self._player = threading.Thread(name="expert")
        self._unattended: Unattended | None = None
        self._up = False
        self._reminded_s = float("-inf")
        self._deadline_s: float | None = None

    # -- its life ------------------------------------------------------------------------------------

    def __enter__(self) -> Session:
        """Take the keys. In the main thread."""
        if self._terminal_fd is not None:
            self._stack.enter_context(
                Terminal(self._terminal_fd, self._on_key, self._before_suspend, self._after_suspend)
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        for thread in (self._worker, self._player):
            if thread.is_alive():
                thread.join(PLAYER_S)
        self._stack.close()

    def begin(self) -> None:
        """The service is up."""
        self._up = True
        self._worker.start()
        if self.options.begins:
            self.ask(Action.NEXT)

    # -- keys, from their threads --------------------------------------------------------------------

    def _on_key(self, key: str) -> None:
        key = key.lower() if len(key) == 1 else key
        action = actions.KEYS.get(key)
        if action is not None:
            self.ask(action)
        elif self.options.driver == "keyboard" and self._jog.press(key, time.monotonic()):
            self._remind()

    def _remind(self) -> None:
        """Say why keys move nothing, but not with each of them."""
        if self.status.driving:
            return
        self._jog.release()
        if self._up and time.monotonic() > self._reminded_s + REMIND_S:
            self._reminded_s = time.monotonic()
            how = "i takes over" if self.options.corrections else "Enter begins"
            self.view.say(f"you do not drive yet: {how}")

    def ask(self, action: Action) -> None:
        """Ask for something; returns at once. A stop does not queue."""
        if action is Action.STOP:
            self._jog.release()
            self.arm.stopped()
            if self._up:
                self._stop.press()
        elif action is Action.QUIT and not self._up:
            self._end()
        else:
            self._actions.put((action, self.arm.stops))

    def _before_suspend(self) -> None:
        self._jog.release()
        self.arm.stopped()
        if self._up and self.status.mode in ("running", "starting"):
            self._stop.press(SUSPEND_S)

    def _after_suspend(self) -> None:
        self.view.say("the arm was stopped while this was suspended: Enter begins anew")

    def _on_pad(self, name: str) -> None:
        self.ask(Action(name))

    def _speeds(self, now_s: float, dt_s: float) -> dict[str, float]:
        return self._pad.speeds() if self._pad is not None else self._jog.speeds(now_s, dt_s)

    # -- one thing after the other -------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(
                Watch(self.client, recording=self.options.recording, on_status=self._on_status)
            )
            if self._device is not None:
                self._pad = stack.enter_context(Gamepad(self._device, self._on_pad, self.view.say))
            if self.options.driver in ("keyboard", "gamepad"):
                driving = lambda: self.status.teleop.get("source") == "teleop"  # noqa: E731
                stack.enter_context(JogStream(self.client, self._speeds, driving, self.view.say))
            while not self.ended.is_set():
                try:
                    action, stops = self._actions.get(timeout=LOOK_S)
                    if not self._player.is_alive():
                        self.arm.allow(stops)
                    self._do(action)
                except queue.Empty:
                    self._look()
                except CommandError as error:
                    if not self.ended.is_set():
                        self.view.say(str(error))

    def _on_status(self, status: Status) -> None:
        for code in status.faults.keys() - self.status.faults.keys():
            self.view.say(f"fault {code}: {status.faults[code]}")
        self.status = status
        self.view.show(status)

    def _do(self, action: Action) -> None:
        """Carry one wish out. Raises CommandError."""
        if action is Action.QUIT:
            self._quit()
        elif action is Action.NEXT:
            self._next()
        elif action is Action.CLEAR:
            self.client.post("/v1/faults/clear")
            self.view.say("faults are cleared: Enter begins")
        elif self.options.driver == "expert":
            self.view.say("the expert decides: space stops the arm, q ends")
        elif action in (Action.TAKE_OVER, Action.HAND_BACK):
            if not self.options.corrections:
                self.view.say("no policy drives here: so101 record --policy BUNDLE")
            elif action is Action.TAKE_OVER:
                self.episodes.take_over()
            else:
                self._jog.release()
                self.episodes.hand_back()
        elif not self.options.recording:
            self.view.say("nothing is recorded here: so101 record --out DIR")
        else:
            self._edit(action)

    def _next(self) -> None:
        if self.options.driver == "expert":
            self._let_play()
        elif self.options.recording:
            self.episodes.next()
        else:
            self.arm.drive()
        if self.options.seconds is not None and self._deadline_s is None:
            self._deadline_s = time.monotonic() + self.options.seconds

    def _let_play(self) -> None:
        """Let the expert play the person, in a thread of its own, once more where it had stopped."""
        if self._player.is_alive():
            self.view.say("the expert is at it: space stops the arm, q ends")
            return
        self._player = threading.Thread(target=self._play, name="expert", daemon=True)
        self._player.start()

    def _play(self) -> None:
        from services.console.unattended import Unattended  # the physics of a twin: not for real arms

        if self._unattended is None:
            self._unattended = Unattended(
                self.arm,
                self.episodes if self.options.recording else None,
                corrections=self.options.corrections,
                seed=self.options.seed,
                wanted=self.options.episodes,
                ended=self.ended,
                say=self.view.say,
            )
        done = False
        try:
            done = self._unattended.run()
        finally:
            if done or self._terminal_fd is None:
                self.ask(Action.QUIT)
            elif not self.ended.is_set():
                self.view.say("Enter lets it go on, q ends")

    def _edit(self, action: Action) -> None:
        if action is Action.REDO:
            self.episodes.redo()
        elif action is Action.DISCARD:
            self.episodes.discard()
        else:
            labels = {Action.SUCCESS: "success", Action.FAILURE: "failure"}
            self.episodes.finish(labels.get(action))

    def _look(self) -> None:
        """What happens without a key."""
        if self._deadline_s is not None and time.monotonic() >= self._deadline_s:
            self._deadline_s = None
            self.view.say(f"{self.options.seconds:g} s are over")
            self._quit()
            return
        if self.options.driver == "expert":
            return
        try:
            self.episodes.look()
        except CommandError as error:
            self.view.say(str(error))
        recording = self.status.recording or {}
        wanted = recording.get("episodes")
        if wanted and recording.get("kept", 0) >= wanted and recording.get("state") == "idle":
            self.view.say(f"all {wanted} episodes are recorded")
            self._quit()

    def _quit(self) -> None:
        """End in the order in which nothing is lost: the recording, what drives, everything."""
        self.ended.set()
        if self._player.is_alive():
            self._player.join(PLAYER_S)
        if self.options.recording:
            try:
                self.episodes.stop()
                self._until_kept()
            except CommandError as error:
                self.view.say(f"whether everything is kept is not known: {error}")
        try:
            self.arm.release()
        except CommandError as error:
            self.view.say(f"the arm was not let go of: {error}")
        self._end()

    def _until_kept(self) -> None:
        """Wait until everything is on the disk, and look once more. Raises CommandError."""
        deadline_s = time.monotonic() + KEPT_S
        while self.client.get("/v1/recording")["state"] != "ended" and time.monotonic() < deadline_s:
            time.sleep(LOOK_S)
        self._on_status(look(self.client, recording=True))

    def _point(self) -> PickupPoint | None:
        """Where the object lies now."""
        if self.options.pickup is not None:
            return self.options.pickup
        try:
            cube = self.client.get("/v1/twin")["cube"]
        except CommandError as error:
            if error.code == "no_twin":
                return None
            raise
        return PickupPoint(x_m=float(cube["x_m"]), y_m=float(cube["y_m"]))
