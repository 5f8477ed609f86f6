"""Looking at episodes: the page in a real browser, the policy over it, and Rerun."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from inference.bundle import load_bundle
from robot.errors import BundleError, ConfigError, DatasetError
from robot.recording.features import Feature
from robot.recording.reader import Dataset
from robot.recording.video import CODECS, VideoWriter, read_video
from robot.recording.writer import DatasetWriter
from services.cli import app, dataset_view
from services.shipped import ROOT
from services.view.chunks import check_suits, horizon_error, predict
from services.view.episode import read_episode
from services.view.footage import footage
from services.view.page import Picture, Shown, render, show
from tests.browser import Browser, needs_browser
from tests.inference.toy import toy_actions, write_bundle, write_tool_bundle

FOREIGN = (
    "</script><script>document.title='taken'</script><!-- \"'&<img src=x onerror=\"document.title='taken'\">"
)
REAL = ROOT.parent / "shared" / "data" / "episodes" / "real_so101_30fps.parquet"
FPS, FRAMES = 30, 40
REPEATED = (7, 8, 20)


def level(frame: int) -> int:
    """How bright a picture is, from which its number can be read again."""
    return 20 + 5 * frame


def picture(frame: int) -> np.ndarray:
    return np.full((32, 48, 3), level(frame), np.uint8)


def pose(frame: int, joint: int) -> float:
    return 10.0 * joint + frame / 4


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of two cameras: some frames a person's, some not learned, some pictures shown twice."""
    scalars = {"loss_mask": "float32", "intervention": "int64", "timing.time_s": "float64"}
    scalars |= {f"timing.{name}_age_s": "float32" for name in ("state", "wrist", "overhead")}
    root = tmp_path_factory.mktemp("view") / "some & <b>"
    extra = [Feature(name, kind, (1,)) for name, kind in scalars.items()]
    cameras = {"wrist": (32, 48), "overhead": (32, 48)}
    with DatasetWriter.create(root, fps=FPS, cameras=cameras, extra_features=extra) as writer:
        for number, task in enumerate((FOREIGN, "put it away")):
            writer.begin_episode(task)
            for frame in range(FRAMES):
                time_s, captured_s = frame / FPS, (frame - (frame in REPEATED)) / FPS - 0.010
                captured_s -= (frame == REPEATED[1]) / FPS
                values = {
                    "loss_mask": np.float32(frame >= 10),
                    "intervention": np.int64(25 <= frame < 30),
                    "timing.time_s": np.float64(time_s),
                    "timing.state_age_s": np.float32(0.004),
                    "timing.wrist_age_s": np.float32(time_s - captured_s),
                    "timing.overhead_age_s": np.float32(0.012),
                }
                state = np.array([pose(frame, joint) for joint in range(6)])
                images = dict.fromkeys(cameras, picture(frame))
                writer.add_frame(state, state + 1.0, images, np.array([0.2, 0.01 * number]), values)
            writer.save_episode()
    return root


@pytest.fixture(scope="module")
def dataset(root: Path) -> Dataset:
    return Dataset(root)


def bare(path: Path, **columns: object) -> Path:
    frames = np.arange(12)
    joints = pa.array((frames[:, None] + np.arange(6.0)).tolist(), pa.list_(pa.float32(), 6))
    table = {
        "action": joints,
        "observation.state": joints,
        "timestamp": (frames / 30).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.zeros(12, np.int64),
        **columns,
    }
    pq.write_table(pa.table(table), path)
    return path


class Scripts(HTMLParser):
    """The scripts of a page, and what its title says."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = ""
        self.texts: dict[str, list[str]] = {"script": [], "title": []}
        self.others: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.others.append(tag)

    def handle_data(self, data: str) -> None:
        if self.inside in self.texts:
            self.texts[self.inside].append(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""


# -- what is read ------------------------------------------------------------------------------------


def test_an_episode_says_its_timing_and_who_drove(dataset: Dataset) -> None:
    episode = read_episode(dataset, 1)
    assert [joint.unit for joint in episode.joints] == ["deg"] * 5 + ["%"]
    assert np.flatnonzero(episode.cameras["wrist"].repeated).tolist() == list(REPEATED)
    assert not episode.cameras["overhead"].repeated.any()
    assert np.flatnonzero(episode.intervention).tolist() == [25, 26, 27, 28, 29]
    assert np.flatnonzero(~episode.learned).tolist() == list(range(10))
    lines = dict(show(dataset, episode).facts)
    assert lines["age of wrist"] == "10 ms, at most 77, 3 repeated"
    assert lines["pickup"] == "x 0.200 m, y 0.010 m"


@pytest.mark.parametrize(("value", "label"), [(1, "success"), (0, "failure"), (-1, None)])
def test_a_label_is_success_failure_or_not_said(tmp_path: Path, value: int, label: str | None) -> None:
    path = bare(tmp_path / "bare.parquet", success=np.full(12, value))
    assert read_episode(Dataset(path), 0).label == label


def test_units_that_nobody_said_are_not_called_degrees(tmp_path: Path) -> None:
    opened = Dataset(bare(tmp_path / "bare.parquet"))
    assert read_episode(opened, 0).joints[0].unit == "unit not said"
    assert read_episode(opened, 0, "m100_100").joints[0].unit == "-100..100"
    with pytest.raises(ConfigError, match="units"):
        read_episode(opened, 0, "radians")


# -- videos ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    writer = VideoWriter(path, 32, 48, FPS, CODECS["h264"])
    for frame in range(FRAMES + 6):
        writer.add(picture(frame))
    writer.close()
    return path


@pytest.mark.parametrize(("first", "anew"), [(4, False), (5, True)], ids=["key frame", "between"])
def test_a_part_of_a_video_has_its_pictures_and_begins_at_zero(
    long_video: Path, tmp_path: Path, first: int, anew: bool
) -> None:
    part = footage(long_video, start_s=first / FPS, count=20, fps=FPS)
    assert part.anew == anew and part.codec == "h264"
    (tmp_path / "part.mp4").write_bytes(part.mp4)
    images = read_video(tmp_path / "part.mp4", start_s=0.0, count=20, fps=FPS)
    assert np.abs(images.mean(axis=(1, 2, 3)) - [level(first + k) for k in range(20)]).max() < 2.5


def test_a_broken_video_is_named_on_the_page_beside_what_is_whole(root: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    subprocess.run(["cp", "-r", root, broken], check=True)
    video = next((broken / "videos" / "observation.images.wrist").rglob("*.mp4"))
    video.write_bytes(video.read_bytes()[:300])
    opened = Dataset(broken)
    wrist, overhead = show(opened, read_episode(opened, 0)).pictures
    assert wrist.footage is None and video.name in str(wrist.problem)
    assert overhead.footage is not None and overhead.problem is None


# -- the policy --------------------------------------------------------------------------------------


def test_chunks_are_what_the_policy_gives_for_each_frame(dataset: Dataset, tmp_path: Path) -> None:
    bundle, episode = load_bundle(write_bundle(tmp_path / "toy")), read_episode(dataset, 1)
    seen = dataset.frames(1, "wrist")
    every = predict(bundle, dataset, episode, every=7)
    assert len(every.chunks) == 6
    for number, chunk in enumerate(every.chunks):
        expected = toy_actions(seen[7 * number], episode.state[7 * number], np.array([0.2, 0.01]))
        np.testing.assert_allclose(chunk, expected, atol=1e-4)


def test_the_error_counts_no_step_beyond_the_end_or_after_an_unlearned_frame() -> None:
    action = np.arange(6, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)
    starts = np.array([0, 2, 4])
    chunks = np.stack([action[start] + np.full((3, 2), 1.0, np.float32) for start in starts])
    learned = np.array([True, False, True, True, True, True])
    error = horizon_error(chunks, starts, action, learned)
    # Step 0: all three windows are off by 1. Step 1: windows 2 and 4, then exact. Step 2: window 2 alone.
    np.testing.assert_allclose(error[:, 0], [1.0, 0.0, 1.0])
    assert np.isnan(horizon_error(chunks, starts, action, np.zeros(6, bool))).all()


def test_a_policy_that_does_not_suit_is_refused_by_name(dataset: Dataset, tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "toy"))
    opened = Dataset(bare(tmp_path / "bare.parquet"))
    with pytest.raises(BundleError, match="--units degrees"):
        check_suits(bundle, opened, read_episode(opened, 0))
    with pytest.raises(BundleError, match="m100_100"):
        check_suits(bundle, opened, read_episode(opened, 0, "m100_100"))
    with pytest.raises(BundleError, match="--pickup X,Y"):
        check_suits(bundle, opened, read_episode(opened, 0, "degrees"))
    slow = replace(read_episode(dataset, 0), fps=15.0)
    with pytest.raises(BundleError, match=r"30 Hz.*15"):
        check_suits(bundle, dataset, slow)


# -- the page ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(dataset: Dataset, long_video: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Shown]:
    """Both episodes with a policy; the second camera of the first was encoded anew."""
    bundle = load_bundle(write_bundle(tmp_path_factory.mktemp("bundle") / "toy"))
    both = []
    for number in range(2):
        episode = read_episode(dataset, number)
        both.append(show(dataset, episode, predict(bundle, dataset, episode)))
    anew = footage(long_video, start_s=5 / FPS, count=FRAMES, fps=FPS)
    both[0] = replace(both[0], pictures=(both[0].pictures[0], Picture("overhead", anew, None)))
    return both


def test_what_a_dataset_says_stays_text_and_nothing_is_loaded_from_elsewhere(shown: list[Shown]) -> None:
    finding = {"code": "odd", "episode": 0, "message": FOREIGN, "remedy": "</style>"}
    page = render("<i>name</i>", shown, [finding])
    read = Scripts()
    read.feed(page)
    assert "".join(read.texts["title"]) == "<i>name</i>"
    assert len(read.texts["script"]) == 2 + 4  # data, four videos, the page's own
    assert not {"img", "i", "link rel"} & set(read.others)
    data = json.loads(read.texts["script"][0])
    assert data["episodes"][0]["task"] == FOREIGN and data["findings"] == [finding]
    assert "http:" not in page and "https:" not in page and "src=" not in page.replace("img src=x", "")
    assert "default-src 'none'" in page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


SEEN = """(() => {
  const sheet = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const pen = sheet.getContext("2d", { willReadFrequently: true });
  return [...document.querySelectorAll("video")].map((video) => {
    pen.drawImage(video, 0, 0, 1, 1);
    return [video.currentTime, (pen.getImageData(0, 0, 1, 1).data[1] - 20) / 5];
  });
})()"""
STILL = "[...document.querySelectorAll('video')].every((v) => v.readyState >= 2 && !v.seeking && v.paused)"
FRAME = "Number(document.getElementById('timeline').value)"


@needs_browser
def test_videos_and_cursor_are_in_step_in_a_real_browser(
    shown: list[Shown], browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(
        render("toy", shown, [{"code": "odd", "episode": 0, "message": FOREIGN, "remedy": "none"}])
    )
    browser.open(path.as_uri() + "#0/12")

    def in_step() -> int:
        browser.until(STILL)
        frame = int(browser.evaluate(FRAME))
        (wrist_s, wrist), (overhead_s, overhead) = browser.evaluate(SEEN)
        assert abs(wrist_s * FPS - frame - 0.5) < 0.01 and abs(overhead_s * FPS - frame - 0.5) < 0.01
        # The picture itself says its number; the one encoded anew began at 5.
        assert abs(wrist - frame) < 0.5 and abs(overhead - frame - 5) < 0.5
        assert browser.evaluate("document.querySelector('.plot h2 span').textContent") == (
            f"state {pose(frame, 0):.1f}  action {pose(frame, 0) + 1:.1f}"
        )
        return frame

    assert in_step() == 12
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    assert in_step() == 14
    browser.press("Home")
    assert in_step() == 0
    browser.press(" ")
    browser.until(f"{FRAME} >= 15")
    browser.press(" ")
    assert 15 <= in_step() <= FRAMES - 1
    browser.press("End")
    assert in_step() == FRAMES - 1

    assert browser.evaluate("document.title") == "toy"
    assert browser.evaluate("document.getElementById('task').textContent") == FOREIGN
    assert FOREIGN in browser.evaluate("document.getElementById('findings').textContent")
    browser.press("PageDown")
    browser.until(STILL)
    assert browser.evaluate("document.getElementById('task').textContent") == "put it away"
    assert browser.evaluate("document.getElementById('findings').hidden")
    assert browser.errors == []
    assert all(url.startswith(("file:", "blob:", "about:", "data:")) for url in browser.requests)


@needs_browser
def test_a_plot_zooms_where_it_is_dragged_and_goes_where_it_is_clicked(
    shown: list[Shown], browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(render("toy", shown))
    browser.show(1280, 900)
    browser.open(path.as_uri())
    sheet = "document.querySelector('.sheet')"
    browser.evaluate(f"{sheet}.scrollIntoView({{block: 'center'}})")
    box = browser.evaluate(
        f"(() => {{ const b = {sheet}.getBoundingClientRect(); return [b.x, b.y, b.width]; }})()"
    )
    left, width, y = box[0] + 44, box[2] - 50, box[1] + 60  # within the axes

    def click(share: float) -> int:
        browser.mouse("mousePressed", left + share * width, y)
        browser.mouse("mouseReleased", left + share * width, y)
        return int(browser.evaluate(FRAME))

    assert click(0.5) == pytest.approx((FRAMES - 1) / 2, abs=1)
    browser.mouse("mousePressed", left + 0.25 * width, y)
    browser.mouse("mouseMoved", left + 0.4 * width, y)
    browser.mouse("mouseReleased", left + 0.5 * width, y)
    assert click(0.0) == pytest.approx(0.25 * (FRAMES - 1), abs=1)
    assert click(1.0) == pytest.approx(0.5 * (FRAMES - 1), abs=1)
    browser.press("0")
    assert click(1.0) == FRAMES - 1
    for size in ((1280, 900), (800, 900)):
        browser.show(*size)
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), size


# -- the command -------------------------------------------------------------------------------------


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["dataset", "view", *map(str, arguments)], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_a_page_stays_of_sensible_size_unless_episodes_are_chosen(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "page.html"
    code, said = run(root, "--out", out)
    assert code == 0 and "2 episodes" in said
    monkeypatch.setattr(dataset_view, "LARGE_BYTES", 1000)
    code, said = run(root, "--out", out)
    assert code == 0 and "1 episodes" in said and "--episode" in said
    code, said = run(root, "--out", out, "--episode", 1, "--episode", 0)
    assert code == 0 and "2 episodes" in said and "slow to open" in said
    scripts = Scripts()
    scripts.feed(out.read_text())
    assert [each["number"] for each in json.loads(scripts.texts["script"][0])["episodes"]] == [1, 0]


def test_the_real_episodes_view_without_videos(tmp_path: Path) -> None:
    if not REAL.is_file():
        pytest.skip(f"no recording of a real arm at {REAL}")
    out = tmp_path / "real.html"
    code, said = run(REAL, "--out", out)
    assert code == 0 and "3 episodes" in said
    scripts = Scripts()
    scripts.feed(out.read_text())
    data = json.loads(scripts.texts["script"][0])
    assert [each["frames"] for each in data["episodes"]] == [373, 374, 372]
    assert [joint["unit"] for joint in data["joints"]] == ["unit not said"] * 5 + ["%"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rerun", "--save", "x.rrd"), "one of them"),
        (("--save", "x.rrd", "--open"), "--open"),
        (("--save", "x.rrd", "--episode", "0", "--episode", "1"), "once"),
        (("--episode", "7"), "no episode 7"),
        (("--out", "/nowhere/page.html"), "/nowhere/page.html"),
        (("--policy", "/nowhere"), "manifest.json"),
        (("--pickup", "0.2"), "X,Y"),
        (("--pickup", "0.2,nan"), "finite"),
    ],
)
def test_what_cannot_be_is_said(root: Path, arguments: tuple[str, ...], words: str) -> None:
    code, said = run(root, *arguments)
    assert code == 1 and words in said


def test_help_loads_neither_a_policy_nor_rerun() -> None:
    loads = "import sys, services.cli.dataset as d; print({'rerun', 'onnxruntime'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", loads], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"


# -- Rerun -------------------------------------------------------------------------------------------


def test_without_rerun_the_remedy_is_named(
    shown: list[Shown], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.view import rerun_log

    monkeypatch.setattr(rerun_log, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"so101-deploy\[view\]"):
        rerun_log.save_recording(tmp_path / "x.rrd", "toy", shown[0])


def test_a_rerun_recording_holds_every_row_and_picture(shown: list[Shown], tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk (extra view) is not installed")
    from rerun.chunk import RrdReader

    from services.view.rerun_log import save_recording

    path = tmp_path / "episode.rrd"
    save_recording(path, "toy", shown[1])
    rows: dict[str, int] = {}
    for chunk in RrdReader(str(path)).stream():
        if not chunk.is_static:
            rows[chunk.entity_path] = rows.get(chunk.entity_path, 0) + chunk.num_rows
    for entity in (
        "/cameras/wrist",
        "/cameras/overhead",
        "/joints/gripper/action",
        "/arm/tool",
        "/arm/chunk",
    ):
        assert rows[entity] == FRAMES, entity
    with pytest.raises(DatasetError, match="nowhere"):
        save_recording(Path("/nowhere/x.rrd"), "toy", shown[1])


def test_a_policy_that_moves_the_tool_is_not_laid_over_joint_goals(tmp_path: Path) -> None:
    bundle = load_bundle(write_tool_bundle(tmp_path / "bundle"))
    with pytest.raises(BundleError, match=r"moves the tool \(tool_delta_xy\), /data/set holds joint goals"):
        check_suits(bundle, SimpleNamespace(root="/data/set"), SimpleNamespace())  # type: ignore[arg-type]
