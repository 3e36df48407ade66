"""What a verdict recommends and says, of rows that leave no doubt and of those that leave some."""

import math
import re
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
import torch

from labelsmooth.measure import PNorm, Selective, TemperatureScaling
from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.measure.crossed import Crossed, Variance
from labelsmooth.measure.interval import simultaneous_level
from labelsmooth.report import Arm, verdict, write_report
from labelsmooth.report.study.arms import SCORES, Score
from labelsmooth.report.study.doubts import falling, falling_words, nothing_useful
from labelsmooth.report.study.estimate import detectable, estimate, half_width
from labelsmooth.report.study.numbers import Networks
from labelsmooth.report.study.sentences import settling
from labelsmooth.report.study.verdict import recommend
from labelsmooth.study import Objective, Recipe, run_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two arms and a student, three seeds, on the real digits."""
    torch.set_num_threads(1)
    recipe = Recipe(
        data="digits",
        model="linear",
        eps=(0.0, 0.1),
        seeds=3,
        epochs=3,
        student="linear",
        temperatures=(2.0,),
    )
    return run_study(recipe, tmp_path_factory.mktemp("study"))


def arms(nlls, seeds=3, rows=400, scatter=0.01, chance=0):
    """Hard labels and ε = 0.1, without and with a temperature, of given NLLs.

    Rows and seeds scatter alike in every arm, and `scatter` is what each cell differs by itself.
    """
    rng = np.random.default_rng(chance)
    shared = rng.exponential(size=rows) + rng.normal(size=(seeds, 1)) * 0.1
    made = []
    for place, nll in enumerate(nlls):
        table = nll + shared - shared.mean() + scatter * rng.normal(size=(seeds, rows))
        made.append(
            Arm(
                objective=Objective("hard") if place < 2 else Objective.uniform(0.1),
                repair="temperature" if place % 2 else "",
                scores={"nll": Crossed(table.mean(1), {"test": table})},
            )
        )
    return made


@pytest.mark.parametrize(
    ("nlls", "recommended"),
    [
        ((0.3, 0.3, 0.4, 0.35), "hard"),
        ((0.5, 0.3, 0.4, 0.35), "hard + temperature"),
        ((0.5, 0.4, 0.3, 0.3), "smoothed ε = 0.1"),
        ((0.5, 0.4, 0.35, 0.3), "smoothed ε = 0.1 + temperature"),
        # smoothed beats hard labels without a temperature, and not by itself those with one
        ((0.5, 0.4, 0.45, 0.3), "smoothed ε = 0.1 + temperature"),
        # a temperature that harms is left out, on either side
        ((0.3, 0.35, 0.2, 0.25), "smoothed ε = 0.1"),
        ((0.2, 0.25, 0.3, 0.35), "hard"),
        ((0.3, 0.3, 0.3, 0.3), None),
    ],
)
def test_what_beats_every_other_is_recommended(nlls, recommended):
    found = recommend(arms(nlls), 0.95)
    assert (found and found.name) == recommended


def test_two_seeds_recommend_nothing():
    clear = (0.5, 0.4, 0.35, 0.3)
    assert recommend(arms(clear, seeds=2), 0.95) is None
    assert recommend(arms(clear, seeds=3), 0.95) is not None


def test_of_hard_labels_alone_the_temperature_is_in_question():
    assert recommend(arms((0.5, 0.4)), 0.95).name == "hard + temperature"
    assert recommend(arms((0.4, 0.5)), 0.95).name == "hard"
    assert recommend(arms((0.4, 0.4)), 0.95) is None


def test_rows_that_differ_widely_leave_it_open():
    """Over seeds alone the difference is beyond noise: each sees the same difference on the same rows."""
    rng = np.random.default_rng(0)
    found = arms((0.5, 0.4, 0.5, 0.37), rows=50)
    by_row = rng.normal(size=50)
    for arm in found[2:]:
        score = arm.scores["nll"]
        arm.scores["nll"] = Crossed(score.values, {"test": score.influences["test"] + by_row})
    hard, smoothed = found[1].scores["nll"], found[3].scores["nll"]
    assert not estimate(smoothed.values - hard.values).within_noise
    assert estimate(smoothed - hard).within_noise
    assert recommend(found, 0.95) is None


def test_several_candidates_widen_the_intervals():
    found = arms((0.5, 0.4, 0.45, 0.3975), seeds=10, scatter=0.015)
    assert recommend(found, simultaneous_level(1)) is not None
    assert recommend(found, simultaneous_level(10**6)) is None


def test_equal_arms_are_seldom_told_apart():
    """Recommended in at most 5 % of studies; over seeds alone it would be several times as many."""
    rng = np.random.default_rng(1)
    told = 0
    for chance in range(200):
        found = arms((0.5, 0.4, 0.5, 0.4), seeds=5, rows=60, chance=chance)
        by_row = rng.normal(size=60)
        for arm in found[2:]:
            table = arm.scores["nll"].influences["test"] + by_row
            arm.scores["nll"] = Crossed(table.mean(1), {"test": table})
        told += recommend(found, 0.95) is not None
    assert told <= 18  # 5 % are 10 ± 3


def test_a_difference_that_can_be_found_is_found_in_four_of_five_studies():
    rng = np.random.default_rng(2)
    tables = rng.normal(size=(500, 1, 100)) + 0.1 * rng.normal(size=(500, 4, 100))
    variance = Crossed(tables[0].mean(1), {"test": tables[0]}).variance
    difference = detectable(variance)
    shifted = [Crossed(t.mean(1) + difference, {"test": t}) for t in tables]
    found = sum(not estimate(crossed).within_noise for crossed in shifted)
    assert 0.7 <= found / 500 <= 0.9
    assert half_width(variance) < difference


def test_the_numbers_of_networks_are_the_means_of_their_influences(study):
    for trials in study.arms().values():
        networks = Networks(trials)
        for part in ("test", "test_with_temperature"):
            for metric in SCORES:
                crossed = networks[f"{part}.{metric}"]
                stored = [trial.metrics[part][metric] for trial in trials]
                assert crossed.values.tolist() == stored
                np.testing.assert_allclose(crossed.influences["test"].mean(1), stored, atol=1e-6)
                assert ("validation" in crossed.influences) == (part == "test_with_temperature")
        for field in ("validation.logit_gap", "test.logit_gap", "test_with_pnorm.aurc"):
            crossed = networks[field]
            (table,) = crossed.influences.values()
            np.testing.assert_allclose(table.mean(1), crossed.values, atol=1e-6)
        assert not networks["train.spread"].influences


def test_a_number_that_there_is_not_is_no_name(study):
    networks = Networks(study.arms()["hard"])
    for field in ("test.nothing", "nothing.nll", "distilled.agreement", "nll"):
        with pytest.raises(KeyError):
            networks[field]


def test_without_a_temperature_the_rows_are_as_given(study):
    """A trial whose validation rows could not tell one."""
    trial = study.arms()["hard"][0]
    told = {name: part for name, part in trial.metrics.items() if "with_temperature" not in name}
    told["fitted"] = {name: value for name, value in told["fitted"].items() if name != "temperature"}
    networks = Networks([replace(trial, metrics=told)])
    assert networks["fitted.temperature"].values.tolist() == [1.0]
    assert not networks["fitted.temperature"].influences["validation"].any()
    plain, scaled = (networks[f"{part}.nll"] for part in ("test", "test_with_temperature"))
    assert scaled.values.tolist() == plain.values.tolist() == [trial.metrics["test"]["nll"]]
    np.testing.assert_array_equal(scaled.influences["test"], plain.influences["test"])


def test_the_temperature_counts_its_validation_rows(study):
    """Its chance over rows is that of fitting it on rows drawn anew."""
    trials = study.arms()["hard"]
    crossed = Networks(trials)["fitted.temperature"]
    arrays = trials[0].arrays
    rng, rows = np.random.default_rng(0), len(arrays.validation_labels)
    draws = [rng.integers(0, rows, rows) for _ in range(200)]
    fitted = [
        TemperatureScaling().fit(arrays.validation_logits[rows], arrays.validation_labels[rows]).temperature
        for rows in draws
    ]
    foreseen = crossed.influences["validation"][0].std() / math.sqrt(rows)
    assert foreseen == pytest.approx(np.std(fitted), rel=0.2)


def test_what_follows_from_the_temperature_counts_the_validation_rows(study):
    """The NLL moves with log T as the test rows say."""
    trial = study.arms()["uniform:0.1"][0]
    crossed = Networks([trial])["test_with_temperature.over_confidence"]
    of_log = (
        Networks([trial])["fitted.temperature"].influences["validation"][0]
        / trial.metrics["fitted"]["temperature"]
    )

    def over_confidence(temperature):
        p = torch.from_numpy(trial.arrays.test_logits).double().div(temperature).softmax(-1).max(-1)
        return float((p.values - (p.indices == torch.from_numpy(trial.arrays.test_labels)).double()).mean())

    step = 1e-4
    slope = (
        over_confidence(trial.metrics["fitted"]["temperature"] * math.exp(step))
        - over_confidence(trial.metrics["fitted"]["temperature"] * math.exp(-step))
    ) / (2 * step)
    np.testing.assert_allclose(crossed.influences["validation"][0], slope * of_log, rtol=0.1)


def test_students_are_paired_with_their_teachers(study):
    networks = Networks(study.students(2.0)["hard"])
    for field in ("agreement", "kl"):
        crossed = networks[f"distilled.{field}"]
        np.testing.assert_allclose(crossed.influences["test"].mean(1), crossed.values, rtol=1e-6)
    assert not networks["distilled.equivalent_smoothing"].influences


def test_how_many_seeds_settle_a_difference():
    table = np.random.default_rng(3).normal(size=(3, 1)) + np.random.default_rng(4).normal(size=(3, 200))
    variance = Crossed(table.mean(1), {"test": table}).variance
    words = settling(1.5, variance, 0.95)
    seeds = int(words.removeprefix("about ").removesuffix(" seeds"))
    assert detectable(variance.resized(seeds, 1)) <= 1.5 < detectable(variance.resized(seeds - 1, 1))
    # below what the rows leave open, seeds alone settle nothing
    floor = math.sqrt(variance.resized(10**6, 1).total)
    assert "times as many rows" in settling(floor, variance, 0.95)
    # a number of rows is written out however large
    rows_alone = Variance(seeds=3, rows=(200,), from_seeds=1e-12, from_rows=(1.0,), from_rest=(1e-12,))
    assert settling(0.1, rows_alone, 0.95).startswith("about 790 times as many rows and ")
    assert settling(0.09, rows_alone, 0.95).startswith("about 1,000 times as many rows and ")
    assert settling(1e-9, variance, 0.95) == "more than 100 seeds and 1,000 times as many rows"


def test_what_settles_is_looked_for_beyond_the_seeds_that_there_are():
    """Of seeds alone a difference takes (2·1.96 · σ/difference)² of them, nearly: 2.8 = 1.96 + 0.84."""
    many = Variance(seeds=120, rows=(), from_seeds=1 / 120, from_rows=(), from_rest=())
    seeds = int(settling(0.2, many, 0.95).removeprefix("about ").removesuffix(" seeds"))
    assert seeds == pytest.approx((2.802 / 0.2) ** 2, rel=0.02)
    assert settling(1.0, many, 0.95) == "about 120 seeds"
    assert settling(1e-9, many, 0.95) == "more than 1,200 seeds"


def test_the_words_are_those_of_the_verdict(study):
    found = verdict(study)
    assert found.candidates == 1
    if found.recommended is None:
        assert found.headline.startswith("3 seeds and 359 test rows cannot tell smoothed ε = 0.1 from hard")
        assert "Such a study finds a difference in NLL of" in found.sentences[0]
    else:
        assert found.headline.startswith("Train with ")
        assert len(found.sentences) >= 3
    few = Recipe(**{**vars(study.recipe), "seeds": 2})
    two = verdict(replace(study, recipe=few, plan=few_of(study.plan), trials=few_of(study.trials)))
    assert two.recommended is None
    assert "2 seeds and 359 test rows cannot tell" in two.headline
    assert "fewer than 3 seeds" in two.headline
    words = write_report(study.folder).path.read_text(encoding="utf-8")
    assert "other test rows would" in words
    assert "two-way variance of seeds and test rows" in words
    assert (
        "spread of the features †"
        in words.partition(">Training rows</th>")[2].partition(">Validation rows")[0]
    )


def test_differences_of_shares_are_points_and_not_per_cent(study):
    found = verdict(study)
    accuracy = [
        fmean(trial.metrics["test"]["accuracy"] for trial in trials) for trials in study.arms().values()
    ]
    about = ("Calibration error (ECE) is", "Test accuracy is")
    told = [sentence for sentence in found.sentences if sentence.startswith(about)]
    assert len(told) == 2
    for sentence in told:
        best, others = sentence.removesuffix(".").split("; ", maxsplit=1)
        assert re.search(r"[\d.]+ ± [\d.]+ %$", best)
        assert "%" not in others
        gaps = re.findall(r"([\d.]+) ± [\d.]+ points", others)
    assert [float(gap) for gap in gaps] == [pytest.approx(100 * abs(accuracy[0] - accuracy[1]), abs=0.06)]
    nll = next(sentence for sentence in found.sentences if sentence.startswith("Test NLL"))
    assert "points" not in nll
    assert nll.count(" nats") >= 4


def few_of(trials):
    """The first two of the three seeds."""
    return tuple(trial for place, trial in enumerate(trials) if place % 3 < 2)


def test_a_study_that_learned_nothing_recommends_nothing(study):
    """Ten classes are guessed with an NLL of 2.3 and an accuracy of 0.1."""

    def scored(trial, nll, accuracy):
        parts = {
            part: {**trial.metrics[part], "nll": nll, "accuracy": accuracy}
            for part in ("test", "test_with_temperature")
        }
        return replace(trial, metrics={**trial.metrics, **parts})

    for nll, accuracy, learned in ((2.4, 0.09, False), (2.4, 0.5, True), (1.0, 0.09, True)):
        of_three = replace(study, trials=tuple(scored(trial, nll, accuracy) for trial in study.trials))
        one = replace(study.recipe, seeds=1)
        of_one = replace(of_three, recipe=one, plan=study.plan[::3], trials=of_three.trials[::3])
        for found in map(verdict, (of_three, of_one)):
            assert found.recommended is None
            assert learned != found.headline.startswith("Nothing was learned: no arm is better than a")


def test_training_that_was_cut_short_is_told(study):
    """The validation NLL falls by more than 0.01 nats in the last epoch, on the mean over seeds."""

    def ending(*nll):
        trials = tuple(
            replace(trial, curves=replace(trial.curves, validation_nll=nll)) for trial in study.trials
        )
        return falling(replace(study, trials=trials))

    arms = ["hard", "smoothed ε = 0.1"]
    assert ending(1.0, 0.8, 0.75) == {name: pytest.approx(0.05) for name in arms}
    assert ending(1.0, 0.7, 0.75) == ending(1.0, 0.8, 0.795) == ending(0.75) == {}
    told = falling_words({"hard": 0.05}, 3)
    assert told == [
        "The validation NLL of hard was still falling in the last epoch, by 0.0500 nats: train longer, for "
        "more than 3 epochs."
    ]


def test_outputs_of_no_use_leave_no_verdict():
    """A headline outside its useful range, of every arm."""
    scores = {
        "test_beams_4.bleu": Score(quantity=QUANTITIES["bleu"], fields={"": ""}, useful=(1.0, math.inf)),
        "test_beams_4.length_ratio": Score(
            quantity=QUANTITIES["length_ratio"], fields={"": ""}, useful=(0.5, 2.0)
        ),
    }

    def said(*values, cut_short):
        found = [
            Arm(
                objective=Objective.uniform(place / 10),
                repair="",
                scores={name: Crossed(np.full(3, value)) for name, value in zip(scores, pair, strict=True)},
            )
            for place, pair in enumerate(values)
        ]
        return nothing_useful(found, scores, {"hard": 0.1} if cut_short else {})

    assert said((0.9, 1.0), (1.0, 1.0), cut_short=True) == ""
    bad = said((0.9, 1.0), (12.0, 2.0), cut_short=True)
    assert bad.startswith("What these networks decode is of no use: for hard, BLEU is 0.9000, below 1.")
    assert bad.endswith("Train longer: the validation NLL was still falling.")
    bad = said((0.5, 0.4), (12.0, 2.1), cut_short=False)
    assert "BLEU is 0.5000, below 1 and length ratio is 0.4000, below 0.5." in bad
    assert bad.endswith("Train for more steps, on more data, or with another learning rate.")


def test_the_p_norm_has_its_own_order(study):
    trial = study.arms()["hard"][0]
    arrays = trial.arrays
    pnorm = PNorm()
    pnorm.p = trial.metrics["fitted"]["pnorm"] or None
    selective = Selective()
    selective.update_scores(
        pnorm.confidence(arrays.test_logits), arrays.test_logits.argmax(-1) == arrays.test_labels
    )
    crossed = Networks([trial])["test_with_pnorm.aurc"]
    assert crossed.influences["test"].mean() == pytest.approx(selective.compute().aurc, rel=1e-6)
