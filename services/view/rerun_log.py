"""An episode in Rerun: pictures, joints, chunks, labels, and the arm in 3D. Needs the extra ``view``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robot.errors import ConfigError, DatasetError
from robot.joints import N_JOINTS
from robot.kinematics import Kinematics
from robot.seams import FloatArray
from services.view.chunks import Predictions
from services.view.episode import Episode
from services.view.page import Shown

if TYPE_CHECKING:
    import rerun

APPLICATION = "so101 dataset view"
FRAME, TIME = "frame", "time"
"""The two timelines: row numbers, and seconds of the video."""
STATE_COLOUR, ACTION_COLOUR, CHUNK_COLOUR = (150, 160, 156), (79, 184, 172), (242, 160, 87)
_FAN_FRAMES = 15


def save_recording(path: Path, title: str, shown: Shown) -> None:
    """Write an episode as ``.rrd``.

    Raises:
        ConfigError: rerun-sdk is not installed.
        DatasetError: the file cannot be written.
    """
    recording = _recording(title, shown)
    try:
        recording.save(path, default_blueprint=_blueprint(shown))
    except (OSError, RuntimeError) as error:  # the latter is Rerun's
        raise DatasetError(f"{path} cannot be written: {error}") from error
    _log(recording, shown)
    recording.disconnect()


def spawn_viewer(title: str, shown: Shown) -> None:
    """Start Rerun's viewer and show an episode in it.

    Raises:
        ConfigError: rerun-sdk is not installed, or its viewer does not start.
    """
    recording = _recording(title, shown)
    try:
        recording.spawn(default_blueprint=_blueprint(shown))
    except RuntimeError as error:
        raise ConfigError(f"Rerun's viewer does not start: {error}; write a file with --save") from error
    _log(recording, shown)
    recording.flush()


def _recording(title: str, shown: Shown) -> rerun.RecordingStream:
    if find_spec("rerun") is None:
        raise ConfigError(
            "Rerun is not installed: pip install 'so101-deploy[view]', or leave --rerun and --save out"
        )
    import rerun as rr

    recording = rr.RecordingStream(APPLICATION)
    recording.send_recording_name(f"{title}, episode {shown.episode.number}")
    return recording


def _blueprint(shown: Shown) -> Any:
    import rerun.blueprint as rrb

    cameras = [rrb.Spatial2DView(origin=_path("cameras", picture.camera)) for picture in shown.pictures]
    joints = [
        rrb.TimeSeriesView(origin=_path("joints", joint.name), name=f"{joint.name} ({joint.unit})")
        for joint in shown.episode.joints
    ]
    arm = [rrb.Spatial3DView(origin="arm")] if _has_arm(shown.episode) else []
    above = rrb.Horizontal(*cameras, *arm, rrb.TextDocumentView(origin="facts"))
    return rrb.Blueprint(rrb.Vertical(above, rrb.Grid(*joints)), collapse_panels=True)


def _log(recording: rerun.RecordingStream, shown: Shown) -> None:
    import rerun as rr

    episode = shown.episode
    text = "\n".join([episode.task, episode.label or "not labelled", *(f"{k}: {v}" for k, v in shown.facts)])
    recording.log("facts", rr.TextDocument(text), static=True)
    for picture in shown.pictures:
        if picture.footage is not None:
            _video(recording, _path("cameras", picture.camera), picture.footage.mp4, episode)
    for index, joint in enumerate(episode.joints):
        _series(recording, ("joints", joint.name, "state"), episode.state[:, index], episode, STATE_COLOUR)
        _series(recording, ("joints", joint.name, "action"), episode.action[:, index], episode, ACTION_COLOUR)
    for name, flags in (("a person drives", episode.intervention), ("learned", episode.learned)):
        _series(recording, ("labels", name), flags.astype(np.float64), episode, ACTION_COLOUR)
    for name, camera in episode.cameras.items():
        _series(recording, ("timing", f"{name} age ms"), 1e3 * camera.age_s, episode, ACTION_COLOUR)
    if _has_arm(episode):
        _arm(recording, episode)
    if shown.predictions is not None:
        _chunks(recording, episode, shown.predictions)


def _path(*parts: str) -> str:
    """An entity path; names of cameras and joints are foreign and may hold anything."""
    import rerun as rr

    return str(rr.new_entity_path(list(parts)))


def _times(frames: FloatArray | Any, episode: Episode) -> list[Any]:
    import rerun as rr

    rows = np.asarray(frames)
    return [rr.TimeColumn(FRAME, sequence=rows), rr.TimeColumn(TIME, duration=rows / episode.fps)]


def _series(
    recording: rerun.RecordingStream,
    parts: tuple[str, ...],
    values: Any,
    episode: Episode,
    colour: tuple[int, int, int],
) -> None:
    import rerun as rr

    path = _path(*parts)
    recording.log(path, rr.SeriesLines(colors=colour, names=parts[-1]), static=True)
    recording.send_columns(
        path,
        _times(np.arange(len(values)), episode),
        rr.Scalars.columns(scalars=np.asarray(values, np.float64)),
    )


def _video(recording: rerun.RecordingStream, path: str, mp4: bytes, episode: Episode) -> None:
    """The file as it is, and for each row the picture in it."""
    import rerun as rr

    asset = rr.AssetVideo(contents=mp4, media_type="video/mp4")
    recording.log(path, asset, static=True)
    shown_ns = asset.read_frame_timestamps_nanos()[: episode.frames]
    references = rr.VideoFrameReference.columns_nanos(shown_ns)
    recording.send_columns(path, _times(np.arange(len(shown_ns)), episode), references)


def _has_arm(episode: Episode) -> bool:
    return episode.units == "degrees" and len(episode.joints) == N_JOINTS


def _arm(recording: rerun.RecordingStream, episode: Episode) -> None:
    """Joint axes and tool point of each measured pose, and the tool's way as states and actions have it."""
    import rerun as rr

    kinematics = Kinematics()
    poses, tool, wanted = [], [], []
    for state, action in zip(episode.state, episode.action, strict=True):
        wanted.append(kinematics.tool_position_m(action.astype(np.float64)))
        tool.append(kinematics.tool_position_m(state.astype(np.float64)))
        anchors = kinematics.data.xanchor[: N_JOINTS - 1]
        poses.append(np.concatenate([anchors, tool[-1][None]]))
    recording.log("arm", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    recording.log("arm/states", rr.LineStrips3D([tool], colors=STATE_COLOUR), static=True)
    recording.log("arm/actions", rr.LineStrips3D([wanted], colors=ACTION_COLOUR), static=True)
    times = _times(np.arange(episode.frames), episode)
    recording.log("arm/links", rr.LineStrips3D.from_fields(colors=STATE_COLOUR, radii=0.006), static=True)
    recording.send_columns("arm/links", times, rr.LineStrips3D.columns(strips=poses))
    recording.log("arm/tool", rr.Points3D.from_fields(colors=CHUNK_COLOUR, radii=0.008), static=True)
    recording.send_columns("arm/tool", times, rr.Points3D.columns(positions=tool))
    if episode.pickup_xy_m is not None:
        point = [*map(float, episode.pickup_xy_m[0]), 0.0]
        recording.log("arm/pickup", rr.Points3D([point], colors=(220, 40, 40), radii=0.01), static=True)


def _chunks(recording: rerun.RecordingStream, episode: Episode, predictions: Predictions) -> None:
    """A fan of every half second as lines of their own, and the tool's way in each chunk at its moment."""
    import rerun as rr

    apart = max(1, round(_FAN_FRAMES / predictions.every))
    for number in range(0, len(predictions.chunks), apart):
        chunk, start = predictions.chunks[number], number * predictions.every
        times = _times(start + np.arange(len(chunk)), episode)
        for index, joint in enumerate(episode.joints):
            path = _path("joints", joint.name, "chunks", str(start))
            recording.log(path, rr.SeriesLines(colors=CHUNK_COLOUR, names="chunk", widths=0.7), static=True)
            scalars = rr.Scalars.columns(scalars=chunk[:, index].astype(np.float64))
            recording.send_columns(path, times, scalars)
    kinematics = Kinematics()
    ways = [
        np.stack([kinematics.tool_position_m(step.astype(np.float64)) for step in chunk])
        for chunk in predictions.chunks
    ]
    recording.log("arm/chunk", rr.LineStrips3D.from_fields(colors=CHUNK_COLOUR, radii=0.002), static=True)
    times = _times(np.arange(len(ways)) * predictions.every, episode)
    recording.send_columns("arm/chunk", times, rr.LineStrips3D.columns(strips=ways))
