"""Studies: what has been done is not done again, and a report says what it is made of."""

from __future__ import annotations

from pathlib import Path

from training.studies.reach import ReachStudy, _results
from training.studies.reach_report import Row, write_reach_report
from training.studies.report import SHORTENED, markdown_table, mean_sd, rate
from training.trials import Trial


def trial(number: int, done_s: float | None) -> Trial:
    return Trial(number, done_s is not None, 2.0, 0.2, 0.1, 0.0, 0.2, 0.1, 0.03, done_s, 0.12, 0.1)


def test_a_table_keeps_its_columns() -> None:
    table = markdown_table(("a", "b"), [("x", "1"), ("y", "2")]).splitlines()
    assert table == ["| a | b |", "| --- | ---: |", "| x | 1 |", "| y | 2 |"]


def test_rates_carry_the_interval_that_their_number_allows() -> None:
    assert rate(8, 10) == "80.0 % (49.0 % to 94.3 %)"
    assert mean_sd([1.0, 3.0]) == "2.00 ± 1.00" and mean_sd([]) == "–"


def test_trials_are_kept_until_something_about_them_changes(tmp_path: Path) -> None:
    study, runs = ReachStudy(work=tmp_path), []

    def run() -> list[Trial]:
        runs.append(1)
        return [trial(0, 1.5), trial(1, None)]

    first = _results(study, "act receding 4", {"bundle": "a"}, run, lambda line: None)
    again = _results(study, "act receding 4", {"bundle": "a"}, run, lambda line: None)
    assert first == again and len(runs) == 1
    _results(study, "act receding 4", {"bundle": "b"}, run, lambda line: None)
    assert len(runs) == 2


def test_the_report_has_its_plot_and_says_that_it_was_shortened(tmp_path: Path) -> None:
    rows = [
        Row("Expert", "", None, [trial(0, 1.0), trial(1, 1.0)]),
        Row("ACT (CNN)", "open loop (8)", 69282, [trial(0, 2.0), trial(1, None)]),
        Row("ACT (CNN)", "receding 4", 69282, [trial(0, 1.2), trial(1, 1.4)]),
    ]
    path = tmp_path / "studies" / "reach.md"
    write_reach_report(path, rows, episodes=2, frames=100, shortened=True)
    text = path.read_text(encoding="utf-8")
    assert SHORTENED in text and path.with_name("reach.png").stat().st_size > 1000
    assert (
        "| ACT (CNN) | receding 4 | 69,282 | 100.0 % (34.2 % to 100.0 %) | 13.00 ± 1.00 | 1.20 ± 0.00 |"
        in text
    )
    assert "Best: ACT (CNN), receding 4: 100 % in 13.0 steps" in text
    write_reach_report(path, rows, episodes=2, frames=100, shortened=False)
    assert SHORTENED not in path.read_text(encoding="utf-8")


def test_a_quick_study_touches_nothing_of_the_full_one() -> None:
    full = ReachStudy()
    quick = full.quick()
    assert quick.shortened and quick.work != full.work and quick.report != full.report
