from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from robot.errors import ConfigError, DatasetError
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter
from services import hub
from services.hub import HubError, card, check_repo_id, push
from tests.services.hub_server import TOKEN, Hub, running_hub

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # its own, of httpx


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with running_hub() as found:
        yield found


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # plain HTTP uploads


def record(writer: DatasetWriter, value: float) -> None:
    writer.begin_episode("pick up the cube")
    for _ in range(3):
        picture = np.full((32, 32, 3), 90, np.uint8)
        writer.add_frame(np.full(6, value), np.full(6, value), {"wrist": picture}, [0.2, 0.1])
    writer.save_episode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    with DatasetWriter.create(root, fps=30, cameras={"wrist": (32, 32)}) as writer:
        record(writer, 1.0)
        record(writer, 2.0)
    # What a recording may leave in the folder, and what a person may.
    for name in ("set_aside/take-000007/rows.bin", ".recording/take-000008/rows.bin", "notes.txt",
                 "data/chunk-000/file-002.parquet"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"half")
    return root


def fetched(server: Hub, repo_id: str, folder: Path) -> Dataset:
    for name, content in server.repositories[repo_id].files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return Dataset(folder)


def test_what_is_pushed_is_the_finished_episodes_and_a_card(server: Hub, root: Path, tmp_path: Path) -> None:
    url = push(root, "me/cubes", endpoint=server.endpoint)
    assert url == f"{server.endpoint}/datasets/me/cubes"
    repository = server.repositories["me/cubes"]
    assert repository.visibility == "private"
    pieces = [f"{kind}/chunk-000/file-00{k}" for kind in ("data", "meta/episodes") for k in (0, 1)]
    assert sorted(repository.files) == sorted(
        [
            "README.md",
            "meta/info.json",
            "meta/stats.json",
            "meta/tasks.parquet",
            *(f"{piece}.parquet" for piece in pieces),
            *(f"videos/observation.images.wrist/chunk-000/file-00{k}.mp4" for k in (0, 1)),
        ]
    )
    assert len(repository.commits) == 1
    assert repository.tags == {"v3.0": f"{1:040x}"}  # without it LeRobot does not find the dataset
    there, here = fetched(server, "me/cubes", tmp_path / "fetched"), Dataset(root)
    assert there.episodes == here.episodes
    np.testing.assert_array_equal(there.frames(1, "wrist"), here.frames(1, "wrist"))


def test_pushing_again_leaves_nothing_of_before_but_the_card(server: Hub, root: Path, tmp_path: Path) -> None:
    push(root, "me/again", private=False, endpoint=server.endpoint)
    repository = server.repositories["me/again"]
    assert repository.visibility == "public"
    repository.files["README.md"] = b"my own words"
    repository.files["data/chunk-000/file-001.parquet"] = b"of an episode that was deleted since"
    with DatasetWriter.create(tmp_path / "less", fps=30, cameras={"wrist": (32, 32)}) as writer:
        record(writer, 3.0)
    push(tmp_path / "less", "me/again", endpoint=server.endpoint)
    assert repository.files["README.md"] == b"my own words"
    assert [name for name in repository.files if name.startswith("data/")] == [
        "data/chunk-000/file-000.parquet"
    ]
    assert len(repository.commits) == 2 and repository.tags == {"v3.0": f"{2:040x}"}
    assert len(fetched(server, "me/again", tmp_path / "fetched").episodes) == 1


def test_the_card_says_what_is_inside(root: Path) -> None:
    text = card(Dataset(root), "me/cubes")
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["tags"] == ["LeRobot", "so101"]
    assert "2 episodes" in body and "30 frames per second" in body and "* pick up the cube" in body
    assert "joints: degrees" in body and 'LeRobotDataset("me/cubes")' in body


def test_what_is_wrong_is_said_before_anything_is_sent(
    server: Hub, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(server.requests)
    for name in ("cubes", "me/cu bes", "../x/y", "", "me/cubes--2", f"me/{'x' * 100}", "me/cubes.git"):
        with pytest.raises(ConfigError, match="give user/name"):
            push(root, name, endpoint=server.endpoint)
    with DatasetWriter.open(root), pytest.raises(DatasetError, match="being written by another process"):
        push(root, "me/open", endpoint=server.endpoint)
    with DatasetWriter.create(tmp_path / "empty", fps=30, cameras={}):
        pass
    with pytest.raises(DatasetError, match="has no episodes to push"):
        push(tmp_path / "empty", "me/empty", endpoint=server.endpoint)
    next(root.glob("videos/*/*/file-001.mp4")).unlink()
    with pytest.raises(DatasetError, match=r"no .*file-001.mp4: the dataset is incomplete"):
        push(root, "me/half", endpoint=server.endpoint)
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'so101-deploy\[hub\]'"):
        check_repo_id("me/cubes")
    assert len(server.requests) == before


def test_a_hub_that_refuses_or_is_away_says_what_to_do(
    server: Hub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HubError, match=r"the Hub did not get it .*so101 dataset push .*set me/cubes"):
        push(root, "me/cubes", endpoint="http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(HubError, match="hf auth login"):
        push(root, "me/foreign", endpoint=server.endpoint)
    assert "me/foreign" not in server.repositories


def test_nothing_of_the_hub_is_imported_before_it_is_asked_for() -> None:
    code = "import sys, services.hub, services.cli.dataset;sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
