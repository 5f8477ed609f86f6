"""The studies of coordinates and of executions: what is in the files is what the reports say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.ensembler import ExecutionConfig
from robot.config import config_root
from robot.errors import ConfigError, So101Error
from robot.twin import child
from training.config import TrainConfig
from training.episodes import DemonstrationOrder
from training.smoothness import Jerk
from training.studies import coordinates as study_module
from training.studies import trying as trying_module
from training.studies.coordinates import (
    CoordinatesStudy,
    load_coordinates_study,
    run_coordinates_study,
)
from training.studies.coordinates_report import (
    Control,
    Row,
    both_obeyed,
    findings_of,
    never_switched,
    rank_correlation,
    write_coordinates_report,
)
from training.studies.execution import HORIZONS, WEIGHTS, ExecutionStudy, executions, run_execution_study
from training.studies.execution_report import Cell
from training.studies.execution_report import findings_of as execution_findings
from training.studies.kept import write_json
from training.studies.report import SHORTENED
from training.studies.variant import Findings, learn
from training.trials import Grasped, Trial

SHIPPED = config_root().parent / "policies" / "pick_place"


class Quiet:
    """Watches a study."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counted: dict[str, int] = {}

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def counting(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        self.counted[title] = self.counted.get(title, 0) + total
        yield lambda more: None


def trial(number: int, success: bool, grasped: Grasped = "target", **changes: Any) -> Trial:
    place = {"x_m": 0.18 + 0.01 * (number % 10), "y_m": 0.1 - 0.02 * (number % 10), "yaw_rad": 0.0}
    end = {"end_x_m": 0.2, "end_y_m": 0.0, "end_z_m": 0.0}
    given = Trial(number=number, success=success, duration_s=5.0, grasped=grasped, **place, **end)
    return replace(given, **changes)


def trials(successes: int, count: int, otherwise: Grasped = "confuser") -> list[Trial]:
    return [trial(k, k < successes, "target" if k < successes else otherwise) for k in range(count)]


FINDINGS = Findings(1234, 0.056, 0.1, 640, 100.0, 60.0, (0.25,), (0.1, 0.2), 0.02)


def row(variant: str, successes: int, **changes: Any) -> Row:
    return Row(variant, [replace(FINDINGS, **changes)], [trials(successes, 100)], [trials(95, 100)])


def study_in(folder: Path) -> CoordinatesStudy:
    return CoordinatesStudy(
        work=folder / "work",
        report=folder / "coordinates.md",
        episodes=DemonstrationOrder(task="pick_place_confuser", seed=0, width_px=64, height_px=48),
        episode_count=2,
        variants=("baseline", "crop"),
        steps=4,
        batch_size=2,
        seeds=(0,),
        trials={"count": 6, "seed": 5, "execution": {"mode": "receding"}},
    )


def test_the_shipped_study_is_whole_and_small_enough_to_be_believed() -> None:
    study = load_coordinates_study()
    assert study.variants[0] == "baseline" and study.trials.count >= 200 and not study.shortened
    assert study.episodes.task == "pick_place_confuser" and study.episodes.variety.look_share == 0
    configs = [study.run_config(variant, seed) for variant, seed in study.models]
    shared = {"policy", "output_dir"}
    assert len({config.model_dump_json(exclude=shared) for config in configs}) == 1
    assert len({config.output_dir for config in configs}) == len({c.policy for c in configs}) == len(configs)
    quick = study.quick()
    assert quick.shortened and quick.work != study.work and quick.report.parent == quick.work


def test_a_study_that_would_report_on_what_it_chose_by_is_refused(tmp_path: Path) -> None:
    content = study_in(tmp_path).model_dump(mode="json")
    content["trials"]["seed"] = 1000
    (tmp_path / "study.yaml").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="choose another"):
        load_coordinates_study(tmp_path / "study.yaml")


class Twin:
    """Stands for all that is slow: episodes, trainings and trials, counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, study: CoordinatesStudy) -> None:
        self.study, self.done = study, []
        monkeypatch.setattr(study_module, "record_episodes", self.record)
        monkeypatch.setattr(study_module, "_in_processes", self.train)
        monkeypatch.setattr(trying_module, "evaluate", self.evaluate)

    def record(self, root: Path, order: Any, count: int, *, jobs: int, on_episode: Any) -> None:
        root.mkdir()
        self.done.append("episodes")

    def train(self, starts: list[Any], advance: Any, jobs: int) -> None:
        for start in starts:
            _, variant, seed = start.args
            bundle = self.study.bundle(variant, seed)
            bundle.mkdir(parents=True)
            (bundle / "manifest.json").write_bytes((SHIPPED / "manifest.json").read_bytes())
            settings = self.study.run_config(variant, seed).model_dump(mode="json")
            found = {"settings": settings, "findings": asdict(FINDINGS)}
            write_json(self.study.findings_file(variant, seed), found)
            self.done.append(f"train {variant}")

    def evaluate(self, bundle: Path, count: int, options: Any, *, jobs: int, on_trials: Any) -> list[Trial]:
        changes = "other" if options.tell_other else "black" if options.blackout else options.task
        self.done.append(f"try {bundle.name} {changes}")
        won = {"crop_0 pick_place_confuser": 5, "crop_0 other": 4}.get(f"{bundle.name} {changes}", 1)
        return trials(won, count)


def test_a_study_goes_on_where_it_was_and_says_what_is_in_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_in(tmp_path)
    twin = Twin(monkeypatch, study)
    run_coordinates_study(study, Quiet(), jobs=1)
    assert twin.done == [
        "episodes", "train baseline", "train crop",
        "try baseline_0 pick_place_confuser", "try baseline_0 pick_place",
        "try crop_0 pick_place_confuser", "try crop_0 pick_place",
        "try crop_0 black", "try baseline_0 other", "try crop_0 other",
    ]  # fmt: skip
    text = study.report.read_text(encoding="utf-8")
    assert SHORTENED not in text and "| crop | 83.3 % (43.6 % to 97.0 %) |" in text
    for name in ("coordinates.png", "coordinates_map.png"):
        assert 1000 < (tmp_path / name).stat().st_size < 150_000 and name in text
    figures = json.loads((tmp_path / "coordinates.json").read_text(encoding="utf-8"))
    assert figures["variants"]["crop"]["confuser"][0]["success"] == "111110"
    assert figures["controls"][0]["kind"] == "cameras black"

    twin.done.clear()
    run_coordinates_study(study, Quiet(), jobs=1)
    assert twin.done == [] and study.report.read_text(encoding="utf-8") == text
    # What the report says is what the files say, not what was computed.
    file = study.work / "results" / "crop_0_confuser.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["trials"][0]["success"] = False
    file.write_text(json.dumps(content), encoding="utf-8")
    # A result that is lost, and a variant whose training changed, are done again; nothing else is.
    (study.work / "results" / "baseline_0_alone.json").unlink()
    run_coordinates_study(study, Quiet(), jobs=1)
    assert twin.done == ["try baseline_0 pick_place"]
    assert "| crop | 66.7 %" in study.report.read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="other episodes"):
        run_coordinates_study(study.model_copy(update={"episode_count": 3}), Quiet(), jobs=1)
    run_coordinates_study(study.model_copy(update={"shortened": True}), Quiet(), jobs=1)
    assert SHORTENED in study.report.read_text(encoding="utf-8")


def test_processes_beside_one_that_fails_are_stopped() -> None:
    started = []

    def start(code: str) -> Any:
        def run() -> Any:
            process = child.start_module("timeit", ["-n", "1", "-r", "1", code])
            started.append(process)
            return process

        return run

    slow = start("import time; time.sleep(60)")
    fast = start("raise ValueError")
    with pytest.raises(So101Error, match="could not be trained"):
        study_module._in_processes([slow, fast], lambda more: None, 2)
    assert all(process.poll() is not None for process in started)


def test_what_a_variant_finds_is_of_its_own_run(
    tmp_path: Path, train_config: TrainConfig, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[tuple[Path, tuple[int, int]]] = []

    def export(run: Path, out: Path, *, name: str, camera_size_px: tuple[int, int]) -> None:
        exported.append((out, camera_size_px))

    monkeypatch.setattr("training.studies.variant.export_bundle", export)
    steps: list[int] = []
    found = learn(train_config, tmp_path / "bundle", (32, 32), steps.append)
    assert steps == [1, 2, 3, 4, 5, 6] and found.samples == 48
    assert exported == [(tmp_path / "bundle", (32, 32))]
    assert found.attention is not None and 0 < found.attention[0] < 1
    assert found.training_l1 > 0 and found.validation_l1 is not None and found.cpu_s > 0
    # Nothing was left to train: what it had cost is remembered.
    again = learn(train_config, tmp_path / "bundle", (32, 32))
    assert again == found


def test_remedies_are_better_only_beyond_both_intervals() -> None:
    rows = [row("baseline", 50), row("near", 60), row("far", 75), row("bad", 20)]
    said = "\n".join(findings_of(rows, rows[2]))
    assert "Better than the baseline beyond both intervals: far." in said
    assert "Worse beyond both intervals: bad." in said
    assert "Not told apart from the baseline by so many trials: near." in said
    assert "Of its 50 failures 50 went for the other cube and 0 between the two (100 %" in said
    assert "Best: far, 75.0 %" in said


def test_coordinates_are_obeyed_where_the_grasp_moves_with_them() -> None:
    before = [trial(0, True), trial(1, True), trial(2, False, "confuser"), trial(3, False, "none")]
    after = [trial(0, True), trial(1, False, "confuser"), trial(2, True), trial(3, True)]
    assert both_obeyed(before, after) == 1 and never_switched(before, after) == 2


def test_ranks_correlate_whatever_the_scale() -> None:
    assert rank_correlation([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert rank_correlation([1, 1, 2], [5, 5, 5]) == 0.0


def test_controls_stand_beside_what_they_are_compared_with(tmp_path: Path) -> None:
    rows = [row("baseline", 40), row("crop", 90)]
    controls = [
        Control("crop", "cameras black", trials(5, 100, "none")),
        Control("crop", "told the other cube's coordinates", trials(88, 100)),
    ]
    settings = {"study": study_in(tmp_path).model_dump(mode="json")}
    write_coordinates_report(tmp_path / "c.md", rows, rows[1], controls, settings, shortened=False)
    text = (tmp_path / "c.md").read_text(encoding="utf-8")
    assert "crop with black cameras: 5 of 100, not 90; it looks." in text
    assert "goes for the told one both times on 88, for the same one both times on 2." in text
    assert text.count("| crop | nothing | 90.0 %") == 1


def test_executions_are_all_there_is_to_compare() -> None:
    ways = executions(40)
    assert len(ways) == len(WEIGHTS) + len(HORIZONS) + 1 and ways["open loop, 40"].mode == "open_loop"
    assert ways["ensemble, m = -0.1"] == ExecutionConfig(mode="ensemble", m=-0.1)
    assert [name for name in executions(8) if name.startswith("receding")] == [
        "receding, 1", "receding, 2", "receding, 4",
    ]  # fmt: skip


def test_the_study_of_executions_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, float, str]] = []

    def evaluate(bundle: Path, count: int, options: Any, *, jobs: int, on_trials: Any) -> list[Trial]:
        asked.append((options.execution.mode, options.coordinate_error_m, options.task))
        jerk = 2e5 if options.execution.mode == "open_loop" else 1e5
        return [replace(each, jerk_dps3=jerk) for each in trials(3 - (options.coordinate_error_m > 0), 4)]

    monkeypatch.setattr(trying_module, "evaluate", evaluate)
    study = ExecutionStudy(SHIPPED, work=tmp_path / "work", report=tmp_path / "execution.md", trials=4)
    run_execution_study(study, Quiet(), jobs=1)
    assert len(asked) == 36
    assert {error for _, error, _ in asked} == {0.0, 0.010}
    text = study.report.read_text(encoding="utf-8")
    assert "| open loop, 40 | 75.0 % (30.1 % to 95.4 %) | 50.0 % (15.0 % to 85.0 %) | 75.0 %" in text
    assert "roughest: open loop, 40 (200)" in text and SHORTENED not in text
    asked.clear()
    run_execution_study(replace(study, shortened=True), Quiet(), jobs=1)
    assert asked == [] and SHORTENED in study.report.read_text(encoding="utf-8")
    run_execution_study(replace(study, trials=5), Quiet(), jobs=1)
    assert len(asked) == 36


def test_an_execution_that_is_worse_beyond_both_intervals_is_named() -> None:
    cells = [
        Cell("receding, 8", "exact coordinates", trials(99, 100)),
        Cell("ensemble, m = -0.1", "exact coordinates", trials(40, 100)),
        Cell("open loop, 40", "exact coordinates", trials(97, 100)),
    ]
    said = "\n".join(execution_findings(cells))
    assert (
        "most successes with receding, 8 (99 of 100); worse beyond both intervals: ensemble, m = -0.1."
        in said
    )
    assert "Successes with ensemble, m = -0.1, in brackets open loop: exact coordinates 40 (97)." in said


def test_jerk_is_the_third_derivative_of_the_arm_alone() -> None:
    jerk = Jerk()
    for tick in range(50):
        time_s = 0.02 * tick
        jerk.add(time_s, np.array([time_s**3, 0, 0, 0, 0, 100.0 * (tick % 2)]))
    assert jerk.mean_dps3 == pytest.approx(6.0)
    assert Jerk().mean_dps3 == 0.0
