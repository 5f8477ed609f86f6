"""The same numbers and files whatever the number of Ray's workers; nodes that differ or die are said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from robot.errors import ConfigError, So101Error
from robot.recording.reader import Dataset
from tests.inference.toy import write_tool_bundle
from training import cluster, evaluation, shipping
from training.checkpoint import load_checkpoint
from training.config import TrainConfig
from training.episodes import DemonstrationOrder
from training.evaluation import EvaluationOptions, evaluate, summary
from training.loop import train
from training.pool import Job
from training.ranks import train_on_ranks
from training.recorder import record_episodes
from training.train_log import Log

slow = pytest.mark.slow
TRIALS = 4
JOBS = "tests.training.worker_jobs"


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """One cluster for all; starting it is what takes long."""
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    with cluster.connected(cluster.LOCAL, 4):
        yield


@slow
@pytest.mark.usefixtures("ray")
@pytest.mark.timeout(600)
def test_the_same_table_with_one_two_and_four_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "SHARE", 1)
    bundle = write_tool_bundle(tmp_path / "bundle")
    options = EvaluationOptions(task="reach", camera_px=(32, 24))
    tables = [summary(evaluate(bundle, TRIALS, options))]
    for workers in (1, 2, 4):
        with cluster.ray_pool(workers) as pool:
            tables.append(summary(evaluate(bundle, TRIALS, options, pool=pool)))
    first, *others = [json.dumps(table) for table in tables]
    assert others == [first] * 3
    assert len({round(failure["end_x_m"], 6) for failure in tables[0]["failures"]}) == TRIALS


@slow
@pytest.mark.usefixtures("ray")
@pytest.mark.timeout(600)
def test_the_same_dataset_with_one_and_two_workers(tmp_path: Path) -> None:
    order = DemonstrationOrder(task="reach", seed=5, width_px=64, height_px=48)
    record_episodes(tmp_path / "here", order, 3)
    for workers in (1, 2):
        with cluster.ray_pool(workers) as pool:
            record_episodes(tmp_path / str(workers), order, 3, pool=pool)
        here, there = Dataset(tmp_path / "here"), Dataset(tmp_path / str(workers))
        assert here.info == there.info and len(here.episodes) == len(there.episodes) == 3
        for number in range(3):
            for name, column in here.load(number).items():
                np.testing.assert_array_equal(column, there.load(number)[name])
        videos = sorted((tmp_path / "here").rglob("*.mp4"))
        assert videos
        for path in videos:
            other = there.root / path.relative_to(here.root)
            assert other.read_bytes() == path.read_bytes(), path


@slow
@pytest.mark.usefixtures("ray")
@pytest.mark.timeout(600)
def test_processes_that_ray_starts_end_where_one_does(train_config: TrainConfig, tmp_path: Path) -> None:
    policy = json.loads(Path(train_config.policy).read_text())
    (tmp_path / "plain.yaml").write_text(json.dumps({**policy, "use_vae": False}))
    runs = {}
    for name in ("one", "two"):
        changes = {"policy": str(tmp_path / "plain.yaml"), "output_dir": str(tmp_path / name)}
        runs[name] = TrainConfig.model_validate({**train_config.model_dump(), **changes})
    train(runs["one"])
    told: list[Log] = []
    result = train_on_ranks(runs["two"], 2, {"CPU": 4.0}, told.append)
    assert result.finished and result.step == runs["two"].steps
    assert told[0]["processes"] == 2 and [entry["event"] for entry in told].count("end") == 1
    assert not list((tmp_path / "two").glob(".seen-*"))
    weights = [load_checkpoint(tmp_path / name).weights(averaged=False) for name in runs]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-5, rtol=1e-4)
    with pytest.raises(ConfigError, match=r"has no .*/nowhere: all machines"):
        train_on_ranks(runs["two"].model_copy(update={"datasets": ("nowhere",)}), 2, {"CPU": 4.0})
    with pytest.raises(ConfigError, match="0 GPUs"):
        train_on_ranks(runs["two"].model_copy(update={"device": "cuda"}), 2, {"CPU": 4.0})


@slow
@pytest.mark.usefixtures("ray")
def test_folders_travel_and_a_worker_that_dies_is_replaced_once(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "in.txt").write_text("grüße")
    copy = Job(
        name="copy",
        entry=f"{JOBS}:copy",
        given={},
        folders={"given": tmp_path / "given"},
        out=tmp_path / "out",
    )

    def die(deaths: int) -> Job:
        given = {"deaths": deaths, "marks": str(tmp_path / f"marks{deaths}")}
        return Job(name="die", entry=f"{JOBS}:die", given=given)

    with cluster.ray_pool(1) as pool:
        assert dict(pool.map([copy, die(1)])) == {0: None, 1: 1}
        assert (tmp_path / "out" / "sub" / "out.txt").read_text() == "GRÜSSE"
        with pytest.raises(So101Error, match=r"die: lost twice, the worker on .*: the memory is full"):
            list(pool.map([die(2)]))


@slow
@pytest.mark.usefixtures("ray")
def test_a_node_must_have_the_same_code_and_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = tmp_path / "none"
    worker = cluster.RayWorker(cluster.Freight(), shared=[tmp_path, none])
    with pytest.raises(ConfigError, match=rf" has no {none}: all machines"):
        worker.check()
    none.touch()
    worker.check()
    worker.host = None
    monkeypatch.setattr(shipping, "code_digest", lambda: "other")
    with pytest.raises(ConfigError, match="another version of so101-deploy"):
        worker.check()
    worker.stop()


def test_folders_are_known_by_their_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / "bundle"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_bytes(b"weights")
    known = shipping.digest(folder)
    archive = shipping.packed(folder)
    assert shipping.kept(known) is None
    there = shipping.keep(known, archive)
    assert shipping.digest(there) == known and shipping.kept(known) == there
    (there / "sub" / "a").write_bytes(b"weight5")
    assert shipping.kept(known) is None, "what was changed meanwhile is sent again"
    assert shipping.keep(known, archive) == there == shipping.kept(known)
    (folder / "sub" / "a").rename(folder / "a")
    assert shipping.digest(folder) != known
    with pytest.raises(So101Error, match="not what was sent"):
        shipping.keep(shipping.digest(folder), archive)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no Ray cluster at 127.0.0.1:1 .*ray start --head"):
        cluster.need_ray()
        with cluster.connected("127.0.0.1:1"):
            pass
    with pytest.raises(ConfigError, match="HOST:PORT"), cluster.connected("head"):
        pass
    with pytest.raises(ConfigError, match="--workers 4 at most"):
        cluster.workers_of({"CPU": 4.0}, 5)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'so101-deploy\[cluster\]'"):
        cluster.need_ray()
