"""A stored study of which some trials diverged."""

from dataclasses import replace

from trials import changed

import labelsmooth.study.runner as runner
from labelsmooth.report import write_report
from labelsmooth.report.study.students import students
from labelsmooth.study import DivergedTrial, Recipe, run_study
from labelsmooth.study.training import run_trial

LINEAR = Recipe(data="digits", model="linear", eps=(0.0, 0.1), seeds=2, epochs=1, student="linear")


def test_students_that_diverge_are_left_out_and_their_teachers_stay(tmp_path, monkeypatch):
    def run(config, *rest):
        large = config.teacher is not None and config.temperature == 10_000
        outcome = run_trial(changed(config, learning_rate=1e9) if large else config, *rest)
        return replace(outcome, config=config)

    monkeypatch.setattr(runner, "run_trial", run)
    study = run_study(replace(LINEAR, temperatures=(2.0, 10_000.0)), tmp_path)
    assert {trial.config.temperature for trial in study.diverged} == {10_000.0}
    assert {trial.config.arm for trial in study.diverged} == {"hard", "uniform:0.1"}
    assert study.diverged_arms == ()
    kept = study.without_diverged()
    assert list(kept.arms()) == list(kept.students(2.0)) == ["hard", "uniform:0.1"]
    assert kept.students(10_000.0) == {}
    assert len(kept.trials) == len(kept.plan) == 8
    words = write_report(tmp_path).path.read_text()
    assert (
        "The training of linear at T = 10000 with a teacher of the arm hard and linear at T = 10000 with a "
        "teacher of the arm smoothed ε = 0.1 diverged, and are left out." in words
    )
    assert "(diverged)" not in words


def test_what_is_paired_with_a_student_that_diverged_has_nothing_to_differ_from(tmp_path):
    """One student breaks down, of a hard teacher or without one; what does not need it is kept."""
    study = run_study(replace(LINEAR, temperatures=(2.0,), shift=1, plain_student=True), tmp_path)

    def without(lost):
        gone = DivergedTrial(config=lost.config, reason="it broke down", versions=lost.versions)
        left = tuple(trial for trial in study.trials if trial is not lost)
        return replace(study, trials=left, diverged=(gone,)).without_diverged()

    kept = without(study.students(2.0)["hard"][1])
    assert list(kept.students(2.0)) == ["uniform:0.1"]
    assert len(kept.trials) == len(kept.plan) == 10
    (taught,) = students(kept).taught
    assert taught.teacher == "smoothed ε = 0.1"
    assert taught.gain is None
    assert list(students(kept).teachers) == list(students(kept).alone) == ["hard", "smoothed ε = 0.1"]

    kept = without(study.students_alone()["hard"][0])
    assert list(kept.students_alone()) == ["uniform:0.1"]
    assert [one.gain is None for one in students(kept).taught] == [True, False]
    (lost,) = kept.diverged_students
    assert (lost.model, lost.arm, lost.teacher) == ("linear", "hard", None)
