"""A policy on the lockstep twin: the same controller and the same execution of chunks as on the arm."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import numpy as np

from inference.action_space import ActionSpace
from inference.ensembler import ExecutionConfig, Executor, make_executor
from inference.follower import ChunkFollower, executor_width
from inference.history import ObservationHistory
from inference.manifest import Manifest
from inference.tool_space import DrivenArm
from robot.controller import Controller
from robot.errors import TwinError
from robot.joints import JOINTS
from robot.kinematics import Kinematics
from robot.model import load_arm
from robot.safety.clearance import ArmClearance
from robot.seams import ArmState, Float32Array, FloatArray, Observation, Policy, Source
from robot.trajectory import Motion
from robot.twin.render import CAMERAS
from training.stage import Stage, enlarge


class InlinePolicySource:
    """A Source that asks the policy itself, with the delays that the live gait has.

    Args:
        stage: whose pictures the policy sees.
        policy: observation to chunk.
        executor: how chunks become targets, of ``executor_width`` of the space.
        pickup_xy_m: the coordinates that the policy is told, shape (2,).
        fps: rate of the chunk's steps.
        latency_ticks: control ticks between an observation and the arrival of its chunk.
        camera_px: (height, width) that the policy wants of each camera that it is shown, or of all;
            pictures of another size are enlarged. ``None``: all cameras, as the stage gives them.
        space: what the numbers of its actions mean.
        start_pose: where the arm goes first, user units, shape (6,); ``None``: chunks at once.
        observation_steps: observations that the policy sees at once.
    """

    def __init__(
        self,
        stage: Stage,
        policy: Policy,
        executor: Executor,
        pickup_xy_m: Float32Array,
        *,
        fps: float,
        latency_ticks: int = 2,
        camera_px: Mapping[str, tuple[int, int]] | tuple[int, int] | None = None,
        space: ActionSpace = "joint_position",
        start_pose: FloatArray | None = None,
        observation_steps: int = 1,
    ) -> None:
        self.stage, self.policy, self.executor = stage, policy, executor
        self.pickup_xy_m = pickup_xy_m
        self.fps, self.latency_ticks = fps, latency_ticks
        self.period_ticks = max(1, round(stage.robot.control_hz / fps))
        sizes = (stage.height_px, stage.width_px) if camera_px is None else camera_px
        self._camera_px = sizes if isinstance(sizes, Mapping) else dict.fromkeys(CAMERAS, sizes)
        self._space, self._start_pose = space, start_pose
        self._history = ObservationHistory.at_rate(observation_steps, fps, stage.robot.control_hz)
        self._due: deque[tuple[int, int, Float32Array]] = deque()
        self._follower: ChunkFollower | None = None

    @classmethod
    def of_bundle(
        cls,
        stage: Stage,
        policy: Policy,
        manifest: Manifest,
        pickup_xy_m: Float32Array,
        *,
        execution: ExecutionConfig | None = None,
        latency_ticks: int = 2,
    ) -> InlinePolicySource:
        """One that does everything as its manifest says.

        Args:
            stage: whose pictures the policy sees.
            policy: the bundle's.
            manifest: of the bundle.
            pickup_xy_m: the coordinates, for a policy that is told any; shape (2,).
            execution: how chunks become targets; ``None``: as the bundle recommends.
            latency_ticks: control ticks between an observation and the arrival of its chunk.
        """
        space, cameras, pose = manifest.action_space, manifest.cameras, manifest.start_pose
        hz = stage.robot.control_hz
        return cls(
            stage,
            policy,
            make_executor(execution or manifest.execution, hz, manifest.fps, executor_width(space)),
            pickup_xy_m,
            fps=manifest.fps,
            latency_ticks=latency_ticks,
            camera_px={camera.name: (camera.height_px, camera.width_px) for camera in cameras},
            space=space,
            start_pose=None if pose is None else np.array([pose[joint] for joint in JOINTS]),
            observation_steps=manifest.observation_steps,
        )

    def drives(self, motion: Callable[[], Motion]) -> None:
        """Say how the command moves that this source's targets lead to; before its first tick.

        Args:
            motion: the gate's last command.
        """
        robot, self._due = self.stage.robot, deque()
        low, high = robot.gate.min_position.array(), robot.gate.max_position.array()
        arm = DrivenArm(Kinematics(), motion, low, high, robot.ramp_velocity_dps, robot.control_hz)
        self._follower = ChunkFollower(
            arm, self._space, lambda fps: self.executor, start_pose=self._start_pose
        )
        self._history.forget()

    def target(self, tick: int, state: ArmState) -> FloatArray | None:
        """See Source."""
        if self._follower is None:
            raise TwinError("a policy's source needs the gate's command: let `drive` drive it")
        follower = self._follower
        follower.begin_tick(tick)
        if follower.following and tick % self.period_ticks == 0:
            wanted = self.executor.wants(tick, self.latency_ticks)
            # One that looks back will be shown this step, though now no chunk is wanted.
            if wanted or self._history.steps > 1:
                seen = self._history.add(self._observation(tick, state))
                if wanted:
                    self._due.append((tick + self.latency_ticks, tick, self.policy.chunk(seen)))
        while self._due and self._due[0][0] <= tick:
            _, observed, chunk = self._due.popleft()
            follower.take(observed, tick, chunk, self.fps)
        return follower.target(tick, state)

    def _observation(self, tick: int, state: ArmState) -> Observation:
        images = self.stage.images(tuple(self._camera_px))
        for name, size in self._camera_px.items():
            if images[name].shape[:2] != size:
                images[name] = enlarge(images[name], *size)
        return Observation(tick, state.position.astype(np.float32), self.pickup_xy_m, images)


def drive(
    stage: Stage,
    source: Source,
    *,
    limit_s: float,
    stop: Callable[[], bool],
    on_tick: Callable[[int, ArmState, FloatArray], None] | None = None,
) -> Motion:
    """Let a source drive through the controller until ``stop``, the time limit or a fault.

    Args:
        stage: the twin, energised.
        source: what drives.
        limit_s: at most this long.
        stop: asked every tick.
        on_tick: given the tick, what was read, and what is commanded after it.

    Returns:
        How the command moved at the end.
    """
    controller = Controller(
        stage.robot,
        stage.arm,
        clearance=ArmClearance(load_arm(), stage.robot.gate),
        sources={"policy": lambda args: source},
        clock=stage.clock,
    )
    if isinstance(source, InlinePolicySource):
        source.drives(lambda: controller.gate.motion)
    controller.adopt(ready=True)  # the trial begins where the stage has put the arm
    answer = controller.command(
        {"op": "run", "run_id": 1, "source": "policy", "args": {}, "max_duration_s": limit_s}
    )
    if not answer["ok"]:
        raise TwinError(f"the rollout did not start: {answer['message']}")
    before = controller.gate.position
    while controller.modes.mode == "running" and not stop():
        before = controller.gate.position
        controller.tick()
        if on_tick is not None:
            on_tick(controller.tick_index, stage.arm.read(), controller.gate.position)
        stage.advance()
    position = controller.gate.position
    return Motion(position, (position - before) / stage.robot.dt_s)
