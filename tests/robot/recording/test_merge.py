from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recording_samples import create, picture, record, vectors

from robot.errors import ConfigError, DatasetError
from robot.recording.convert import convert
from robot.recording.features import Feature
from robot.recording.merge import append_dataset, merge
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter
from tests.legacy_dataset import grey, number_of, write_legacy, write_video


def test_merged_episodes_are_as_if_recorded_in_one_go(tmp_path: Path) -> None:
    lengths = {0: 4, 1: 3, 2: 5}
    with create(tmp_path / "whole") as writer:
        for seed, length in lengths.items():
            record(writer, seed, length, task="put away" if seed == 2 else "pick")
    with create(tmp_path / "a") as writer:
        record(writer, 0, 4, task="pick")
    with create(tmp_path / "b") as writer:
        record(writer, 1, 3, task="pick")
        record(writer, 2, 5, task="put away")
    with create(tmp_path / "merged") as writer:
        for part in ("a", "b"):
            append_dataset(writer, Dataset(tmp_path / part))
    for name in ("info", "stats"):
        texts = [
            json.loads((tmp_path / root / f"meta/{name}.json").read_text()) for root in ("merged", "whole")
        ]
        assert texts[0] == texts[1]
    merged, whole = Dataset(tmp_path / "merged"), Dataset(tmp_path / "whole")
    assert merged.episodes == whole.episodes
    for seed, length in lengths.items():
        for name, column in whole.load(seed).items():
            np.testing.assert_array_equal(merged.load(seed)[name], column)
        assert merged.load(seed)["action"][0].tolist() == np.float32(vectors(seed, 0)[1]).tolist()
        image = merged.frames(seed, "overhead")[length - 1]
        assert np.abs(image.astype(int) - picture(seed * 1000 + (length - 1) * 10 + 1)).mean() < 6
    assert not (tmp_path / "merged/.merging").exists()


def test_unlike_datasets_are_not_merged(tmp_path: Path) -> None:
    with create(tmp_path / "a", (), calibration_sha256="aa" * 32) as writer:
        record(writer, 0, 2)
    others = {
        "features": {"cameras": (), "extra_features": (Feature("x", "float32", (1,)),)},
        "units": {"cameras": (), "units": "m100_100"},
        "robot_type": {"cameras": (), "robot_type": "bi_so_follower"},
        "calibration_sha256 a{64}.* has b{64}": {"cameras": (), "calibration_sha256": "bb" * 32},
    }
    for number, (says, options) in enumerate(others.items()):
        with create(tmp_path / f"{number}", **options) as writer, pytest.raises(DatasetError, match=says):
            append_dataset(writer, Dataset(tmp_path / "a"))
    with create(tmp_path / "unsaid", ()) as writer:
        assert append_dataset(writer, Dataset(tmp_path / "a")) == 1


MASKED = (Feature("loss_mask", "float32", (1,)), Feature("intervention", "int64", (1,)))
RECORDED = (*MASKED, Feature("success", "int64", (1,)), Feature("timing.time_s", "float64", (1,)))


def fill(root: Path, extra: tuple[Feature, ...], lengths: tuple[int, ...], **options: object) -> Path:
    """A dataset whose every extra column is 0: episodes that failed, nothing to learn."""
    with create(root, extra_features=extra, **options) as writer:
        for seed, length in enumerate(lengths):
            writer.begin_episode("pick")
            for frame in range(length):
                images = {name: picture(seed) for name in writer.cameras}
                zeros = {f.name: [0.0 if "float" in f.dtype else 0] for f in extra if f.name != "success"}
                writer.add_frame(*vectors(seed, frame), images, np.array([0.2, 0.1]), zeros)
            writer.save_episode("failure" if len(zeros) < len(extra) else None)
    return root


def test_demonstrations_and_recordings_go_together(tmp_path: Path) -> None:
    demos = fill(tmp_path / "demos", MASKED, (4,))
    recordings = fill(tmp_path / "recorded", RECORDED, (3, 2), calibration_sha256="aa")
    plain = fill(tmp_path / "plain", (), (2,))
    roots, seen = [demos, recordings, plain], []
    with pytest.raises(
        DatasetError, match=r"demos lacks timing.time_s; .*plain lacks timing.time_s: --common"
    ):
        merge(roots, tmp_path / "all")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demos", "plain", "recorded"]
    done = merge(roots, tmp_path / "all", common=True, on_episode=lambda: seen.append(1))
    assert (done.episodes, done.frames, done.dropped, len(seen)) == (4, 11, ("timing.time_s",), 4)
    merged = Dataset(tmp_path / "all")
    assert (merged.units, merged.info["so101"]["calibration_sha256"]) == ("degrees", "aa")
    assert merged.info["so101"]["merged_from"] == ["demos", "recorded", "plain"]
    # What a dataset does not say means that all is learned, nobody intervened and nothing was said.
    said = [[merged.load(k)[name][0] for k in range(4)] for name in ("loss_mask", "intervention", "success")]
    assert said == [[0, 0, 0, 1], [0, 0, 0, 0], [-1, 0, 0, -1]]
    for number, (root, episode) in enumerate([(demos, 0), (recordings, 0), (recordings, 1), (plain, 0)]):
        source = Dataset(root)
        np.testing.assert_array_equal(merged.load(number)["action"], source.load(episode)["action"])
        np.testing.assert_array_equal(merged.frames(number, "wrist"), source.frames(episode, "wrist"))
    stats, actions = merged.stats(), np.concatenate([merged.load(k)["action"] for k in range(4)])
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["action"]["std"], actions.std(0), rtol=1e-5)
    assert stats["observation.images.wrist"]["count"].tolist() == [11]


def test_old_and_new_datasets_go_together_and_tasks_are_one_list(tmp_path: Path) -> None:
    write_legacy(tmp_path / "old", (3, 4), tasks=("pick", "place"))
    write_legacy(tmp_path / "older", (2, 2), tasks=("place", "push"), version="v2.0", images=True)
    roots = [tmp_path / "old", tmp_path / "older"]
    with pytest.raises(ConfigError, match="--units degrees or m100_100"):
        merge(roots, tmp_path / "all")
    merge(roots, tmp_path / "all", units="degrees")
    merged = Dataset(tmp_path / "all")
    assert merged.tasks == ["pick", "place", "push"]
    assert [merged.load(k)["task_index"][0] for k in range(4)] == [0, 1, 1, 2]
    numbers = [[number_of(image) for image in merged.frames(k, "overhead")] for k in range(4)]
    assert numbers == [[0, 1, 2], [3, 4, 5, 6], [0, 1], [2, 3]]
    assert [merged.load(k)["index"].tolist() for k in (0, 3)] == [[0, 1, 2], [9, 10]]


def test_what_cannot_be_one_dataset_is_named(tmp_path: Path) -> None:
    ours = fill(tmp_path / "ours", (), (2,), calibration_sha256="aa")
    others = {
        r"m100 has units m100_100, .*ours has degrees: convert one": {"units": "m100_100"},
        r"bi is of a bi_so_follower, .*ours of a so_follower": {"robot_type": "bi_so_follower"},
        r"hash has calibration_sha256 bb, .*ours has aa": {"calibration_sha256": "bb"},
        r"cams lacks observation.images.overhead: --common": {"cameras": ("wrist",)},
    }
    for (says, options), name in zip(others.items(), ("m100", "bi", "hash", "cams"), strict=True):
        other = fill(tmp_path / name, (), (2,), **options)
        with pytest.raises(DatasetError, match=says):
            merge([ours, other], tmp_path / "all")
    with DatasetWriter.create(tmp_path / "slow", fps=15, cameras={}):
        pass
    with pytest.raises(DatasetError, match=r"slow has 15 fps, .*ours has 30"):
        merge([ours, tmp_path / "slow"], tmp_path / "all")
    sizes = {"wrist": (64, 64), "overhead": (32, 48)}
    with DatasetWriter.create(tmp_path / "size", fps=30, cameras=sizes):
        pass
    with pytest.raises(DatasetError, match=r"images.wrist: shape is \[64, 64, 3\] in .*size, \[32, 48, 3\]"):
        merge([ours, tmp_path / "size"], tmp_path / "all")
    with pytest.raises(DatasetError, match=r"no dataset has force to drop"):
        merge([ours, ours], tmp_path / "all", drop=["force"])
    with pytest.raises(DatasetError, match="two datasets or more"):
        merge([ours], tmp_path / "all")
    assert not (tmp_path / "all").exists()
    done = merge([ours, tmp_path / "cams"], tmp_path / "all", common=True)
    assert done.dropped == ("observation.images.overhead",)


def test_videos_are_of_one_codec_whatever_its_settings(tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("h264", "av1", "crf")]
    for root in roots:
        with create(root, ("wrist",), codec="av1" if root.name == "av1" else "h264") as writer:
            record(writer, 3, 4)
    path = roots[2] / "meta/info.json"
    path.write_text(path.read_text().replace('"video.crf": 18', '"video.crf": 23'))
    merge(roots, tmp_path / "all")
    merged = Dataset(tmp_path / "all")
    said = merged.info["features"]["observation.images.wrist"]["info"]
    assert said["video.codec"] == "h264" and "video.crf" not in said
    videos = [root / "videos/observation.images.wrist/chunk-000" for root in (*roots, tmp_path / "all")]
    assert [codec_name(videos[3] / f"file-00{k}.mp4") for k in range(3)] == ["h264"] * 3
    for k, source in ((0, 0), (2, 2)):  # no picture of these was touched
        assert (videos[3] / f"file-00{k}.mp4").read_bytes() == (videos[source] / "file-000.mp4").read_bytes()
    np.testing.assert_allclose(
        merged.frames(1, "wrist").astype(int), Dataset(roots[1]).frames(0, "wrist"), atol=25
    )
    merge([roots[1], roots[0]], tmp_path / "first")
    assert codec_name(tmp_path / "first/videos/observation.images.wrist/chunk-000/file-001.mp4") == "av1"


def codec_name(video: Path) -> str:
    with av.open(str(video)) as file:
        return str(file.streams.video[0].codec.canonical_name)


def test_episodes_that_share_files_are_cut_apart(tmp_path: Path) -> None:
    """As LeRobot's writer keeps them: one table and one mp4 for all, a row of the table for each episode."""
    lengths, root = (4, 5, 3), tmp_path / "shared"
    write_legacy(tmp_path / "old", lengths, cameras=("wrist",))
    convert(tmp_path / "old", root, units="degrees")
    key = "observation.images.wrist"
    video = root / f"videos/{key}/chunk-000/file-000.mp4"
    video.unlink()  # it is a second name of the old one
    write_video(video, (grey(k) for k in range(12)))
    tables = [root / f"data/chunk-000/file-00{k}.parquet" for k in range(3)]
    pq.write_table(pa.concat_tables([pq.read_table(path) for path in tables]), tables[0])
    for k, start in enumerate((0, 4, 9)):
        path = root / f"meta/episodes/chunk-000/file-00{k}.parquet"
        table = pq.read_table(path)
        changes = {
            "data/file_index": 0,
            f"videos/{key}/file_index": 0,
            f"videos/{key}/from_timestamp": start / 30,
        }
        for name, value in changes.items():
            place = table.column_names.index(name)
            table = table.set_column(place, name, pa.array([value], table.field(place).type))
        pq.write_table(table, path)
    merge([root, tmp_path / "old"], tmp_path / "all", units="degrees")
    merged = Dataset(tmp_path / "all")
    for episode, numbers in enumerate(([0, 1, 2, 3], [4, 5, 6, 7, 8], [9, 10, 11]) * 2):
        assert [number_of(image) for image in merged.frames(episode, "wrist")] == numbers
        np.testing.assert_array_equal(merged.load(episode)["action"][:, 0], numbers)
        assert merged.episode(episode).videos[key].from_s == 0.0
