"""The same numbers and files whatever the number of Ray's workers; nodes that differ or die are said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from robot.errors import ConfigError, So101Error
from tests.inference.toy import write_tool_bundle
from training import cluster, evaluation, shipping
from training.episodes import DemonstrationOrder
from training.evaluation import EvaluationOptions, evaluate, summary
from training.pool import Job
from training.recorder import record_episodes

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
        for path in shipping.files_in(tmp_path / "here"):
            other = tmp_path / str(workers) / path.relative_to(tmp_path / "here")
            if path.suffix == ".mp4":
                assert other.read_bytes() == path.read_bytes(), path


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
    assert shipping.kept(known) == (shipping.keep(known, archive) and there)
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
