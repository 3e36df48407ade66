"""Students that learn from the networks of a study, and the information that training leaves in a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from trials import new_network

from labelsmooth.measure import equivalent_smoothing, mutual_information, teacher_agreement
from labelsmooth.report.study.students import students
from labelsmooth.study import Recipe, load_study, run_study
from labelsmooth.study.store import load_weights
from labelsmooth.study.tasks.images import measuring, task
from labelsmooth.study.tasks.images.augment import augmented
from labelsmooth.study.tasks.images.data import load_data
from labelsmooth.study.tasks.images.information import information_of
from labelsmooth.study.training import load_network, run_trial, train_trial
from labelsmooth.study.trial import DivergedTrial, TrainedNetwork

RECIPE = Recipe(
    data="digits",
    model="mlp800",
    student="cnn",
    eps=(0.0, 0.1),
    seeds=2,
    epochs=3,
    temperatures=(1.0, 3.0),
    beta=0.7,
)
WITHOUT = {"student": None, "temperatures": (1.0, 2.0, 4.0), "beta": 1.0}  # of what students have
ALONE = replace(RECIPE, **WITHOUT)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    torch.set_num_threads(1)
    return run_study(RECIPE, tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


def test_the_plan_has_every_teacher_every_student_alone_and_every_pair(study):
    planned = [(t.model, t.objective, t.teacher and t.teacher.objective, t.seed) for t in RECIPE.trials("")]
    arms = [("hard", 0), ("hard", 1), ("uniform:0.1", 0), ("uniform:0.1", 1)]
    assert planned == [
        *(("mlp800", arm, None, seed) for arm, seed in arms),
        *(("cnn", arm, None, seed) for arm, seed in arms),
        *(("cnn", f"distillation:{t}:0.7", arm, seed) for t in (1, 3) for arm, seed in arms),
    ]
    assert len({trial.id for trial in RECIPE.trials("")}) == 16
    taught = [trial for trial in RECIPE.trials("") if trial.teacher]
    assert taught[0].id.startswith("hard-student-T1-seed0-")
    by_id = {trial.id: trial for trial in RECIPE.trials("")}
    assert all(
        by_id[t.teacher.id].objective == t.teacher.objective and by_id[t.teacher.id].seed == t.seed
        for t in taught
    )
    # the student of its own kind is already there without a teacher
    same = replace(RECIPE, student="mlp800").trials("")
    assert len(same) == 12
    # but for images that its teacher did not see as they are
    assert len(replace(RECIPE, student="mlp800", shift=1, plain_student=True).trials("")) == 16

    shifted = replace(RECIPE, shift=2, flip=0.5, crop=6, information=3)
    plain = replace(shifted, plain_student=True)
    assert {
        (t.model, s.shift, s.flip, s.crop, s.information) for t in plain.trials("") for s in [t.settings]
    } == {
        ("mlp800", 2, 0.5, 6, 3),
        ("cnn", 0, 0.0, 6, 0),
    }
    assert plain.trials("")[:4] == shifted.trials("")[:4]

    assert {arm: len(trials) for arm, trials in study.arms().items()} == {"hard": 2, "uniform:0.1": 2}
    assert {t.config.model for ts in study.arms().values() for t in ts} == {"mlp800"}
    assert {t.config.model for ts in study.students_alone().values() for t in ts} == {"cnn"}
    assert [t.config.seed for t in study.students(3.0)["uniform:0.1"]] == [0, 1]
    assert all(t.config.temperature == 3.0 for ts in study.students(3.0).values() for t in ts)


def test_a_student_of_its_teachers_kind_on_plain_images_has_arms_of_its_own(tmp_path):
    recipe = replace(RECIPE, model="linear", student="linear", shift=1, plain_student=True, epochs=1)
    study = run_study(recipe, tmp_path)
    for arms, shift, taught in (
        (study.arms(), 1, None),
        (study.students_alone(), 0, None),
        (study.students(3.0), 0, "hard"),
    ):
        assert {name: [t.config.seed for t in trials] for name, trials in arms.items()} == {
            "hard": [0, 1],
            "uniform:0.1": [0, 1],
        }
        assert {t.config.settings.shift for trials in arms.values() for t in trials} == {shift}
        assert [t.config.teacher and t.config.teacher.objective for t in arms["hard"]] == [taught] * 2
    assert study.students(2.0) == {}
    alone = replace(recipe, plain_student=False, **WITHOUT)
    assert replace(study, recipe=alone, plan=study.plan[:4]).students(1.0) == {}
    found = students(study)
    assert list(found.alone) == list(found.teachers) == ["hard", "smoothed ε = 0.1"]
    assert list(found.alone.values()) != list(found.teachers.values())
    for accuracy, trials in zip(found.alone.values(), study.students_alone().values(), strict=True):
        assert accuracy.mean == pytest.approx(np.mean([t.metrics["test"]["accuracy"] for t in trials]))


@pytest.mark.long
def test_students_come_after_an_interruption_as_without_one(study, data, tmp_path):
    """A study without the students first, then with them, gives the same trials."""
    run_study(ALONE, tmp_path)
    grown = run_study(RECIPE, tmp_path, jobs=2)
    assert (tmp_path / "results.jsonl").read_bytes() == (study.folder / "results.jsonl").read_bytes()
    assert len(grown.trials) == 16


def test_what_a_student_is_measured_by(study, data):
    student = study.students(3.0)["uniform:0.1"][1]
    (teacher,) = (t for t in study.trials if t.config.id == student.config.teacher.id)
    found = student.metrics["distilled"]
    t, s = (torch.from_numpy(trial.arrays.test_logits) for trial in (teacher, student))
    agreement = teacher_agreement(s, t, 3.0)
    assert (found["agreement"], found["kl"]) == (agreement.agreement, agreement.kl)
    log_p = [F.log_softmax(z.double() / 3, -1) for z in (t, s)]
    assert found["kl"] == pytest.approx(
        float(F.kl_div(log_p[1], log_p[0], reduction="batchmean", log_target=True))
    )
    weights = load_weights(study.folder, teacher.config)
    network = load_network(TrainedNetwork(config=teacher.config, weights=weights), data.summary)
    assert not network.training
    with torch.no_grad():
        logits = network(data.train.images)
        np.testing.assert_allclose(network(data.test.images).numpy(), t.numpy(), rtol=1e-5, atol=1e-5)
    gamma = equivalent_smoothing(logits, data.train.labels, 3.0)
    assert found["equivalent_smoothing"] == pytest.approx(gamma, rel=1e-6)
    assert all("distilled" not in t.metrics for arm in study.arms().values() for t in arm)


def test_a_student_trains_on_the_loss_of_its_teacher(data):
    """One epoch of plain gradient steps, against autograd on the formula in float32."""
    recipe = replace(RECIPE, seeds=1, epochs=1, momentum=0.0, weight_decay=0.0, batch_size=500)
    trials = recipe.trials(data.summary.sha256)
    teacher_trial = trials[0]
    student = next(
        t for t in trials if t.teacher and t.teacher.id == teacher_trial.id and t.temperature == 3.0
    )
    taught = train_trial(teacher_trial, data, lambda: None)
    teacher = TrainedNetwork(config=teacher_trial, weights=taught.weights)
    result = train_trial(student, data, lambda: None, teacher)

    network, guide = new_network(student, data.summary), load_network(teacher, data.summary)
    rows = len(data.train.labels)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(student.seed))
    batches = torch.split(order, 500)
    for step, batch in enumerate(batches):
        images, labels = data.train.images[batch], data.train.labels[batch]
        logits = network(images)
        with torch.no_grad():
            target = F.softmax(guide(images) / 3, -1)
        soft = -(target * F.log_softmax(logits / 3, -1)).sum(-1).mean()
        loss = 0.3 * F.cross_entropy(logits, labels) + 0.7 * 9 * soft
        grads = torch.autograd.grad(loss, list(network.parameters()))
        rate = 0.1 * (1 + np.cos(np.pi * step / len(batches))) / 2
        with torch.no_grad():
            for parameter, grad in zip(network.parameters(), grads, strict=True):
                parameter -= rate * grad
    for name, value in network.state_dict().items():
        np.testing.assert_allclose(result.weights[name], value.numpy(), rtol=1e-4, atol=1e-5)


def test_weights_of_another_model_are_refused(data):
    trial = RECIPE.trials(data.summary.sha256)[0]
    with pytest.raises(ValueError, match="the weights of hard-seed0-.* are not those of the model mlp800"):
        load_network(TrainedNetwork(config=trial, weights={}), data.summary)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"student": "nothing"}, "model must be one of"),
        ({"temperatures": ()}, "temperatures must name at least one value, and none twice, got none"),
        ({"temperatures": (1, 1.0)}, "none twice, got 1, 1"),
        ({"temperatures": (0.0,)}, "temperatures must lie in [0.01, 10000], got 0"),
        ({"temperatures": (float("inf"),)}, "temperatures must lie in [0.01, 10000], got inf"),
        ({"beta": 0.0}, "beta must lie in (0, 1], got 0"),
        ({"beta": 1.5}, "beta must lie in (0, 1], got 1.5"),
        ({**WITHOUT, "temperatures": (2.0,)}, "temperatures must go with a student, got 2 without one"),
        ({**WITHOUT, "beta": 0.5}, "beta must go with a student, got 0.5 without one"),
        ({**WITHOUT, "plain_student": True}, "plain_student must go with a student, got True without one"),
        ({"also": ("uniform:0.1",)}, "the objectives must not name uniform:0.1 twice"),
        ({"also": ("mixup:1", "hard+mixup:1")}, "must not name mixup:1 twice"),
        ({"also": ("unigrm:0.1",)}, "got 'unigrm:0.1', did you mean unigram?"),
        ({"also": ("nothing",)}, "an objective must be one of others, unigram, class_conditional, "),
        ({"also": ("temporal:0.1",)}, "the objectives of images must need no neighbours, got temporal:0.1"),
        ({"also": ("distillation:2",)}, "the objectives must need no teacher, as students have, got dist"),
        ({"information": 2}, "information 2 must come with a shift, a crop, or a flip below 1, got none"),
        ({"information": 2, "flip": 1.0}, "information 2 must come with a shift, a crop, or a flip below 1"),
        ({"information": -1}, "information must be a whole number of at least 0, got -1"),
    ],
)
def test_settings_out_of_range(settings, says):
    with pytest.raises(ValueError, match="must") as raised:
        replace(RECIPE, **settings)
    assert says in str(raised.value)


@pytest.mark.parametrize("rows", ["train", "validation", "test"])
def test_rows_that_overflow_only_at_the_end_are_a_breakdown(data, rows, monkeypatch):
    """As one image that the network is never trained on, and whose features float32 cannot hold."""
    config = replace(ALONE, eps=(0.0,), epochs=1).trials(data.summary.sha256)[0]
    measured = task.arrays_of_network

    def with_a_huge_image(network, config, data, teacher):
        seen = getattr(data, rows)
        images = seen.images.clone()
        images[-1] = 3e38
        return measured(network, config, replace(data, **{rows: replace(seen, images=images)}), teacher)

    monkeypatch.setattr(task, "arrays_of_network", with_a_huge_image)
    outcome = run_trial(config, data, lambda: None)
    assert isinstance(outcome, DivergedTrial)
    assert outcome.reason.startswith("the network of mlp800 on hard, seed 0 cannot be measured")


# information


def test_information_of_infinite_logits_is_told_as_a_breakdown(data):
    config = replace(ALONE, model="linear", shift=1, information=1).trials("")[0]
    train = replace(data.train, images=data.train.images.clone())
    train.images[(data.train.labels == 0).nonzero()[0]] = 3e38
    network = new_network(config, data.summary)
    with torch.no_grad():
        network.classifier.weight.mul_(100)
        assert np.isnan(information_of(network, config, replace(data, train=train)))


def test_training_rows_that_come_in_parts_are_all_counted(data, monkeypatch):
    config = replace(RECIPE, model="linear", student="linear").trials(data.summary.sha256)[-1]
    network = new_network(config, data.summary).eval()
    with torch.no_grad():
        whole = measuring.arrays_of_network(network, config, data, network)
        monkeypatch.setattr(measuring, "_ROWS", 250)
        parts = measuring.arrays_of_network(network, config, data, network)
    np.testing.assert_array_equal(parts.train_features, whole.train_features)
    np.testing.assert_array_equal(parts.train_feature_labels, whole.train_feature_labels)
    for name in ("train_geometry", "train_teacher", "taught_by"):
        for part, array in getattr(whole, name).items():
            np.testing.assert_allclose(getattr(parts, name)[part], array, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("number", "epochs", "moments"),
    [(0, 5, ()), (1, 5, (5,)), (2, 5, (1, 5)), (3, 5, (1, 3, 5)), (9, 3, (1, 2, 3)), (4, 1, (1,))],
)
def test_the_moments_of_information(data, number, epochs, moments):
    trial = replace(ALONE, model="cnn", shift=1, information=number, epochs=epochs, eps=(0.0,))
    curves = train_trial(trial.trials(data.summary.sha256)[0], data, lambda: None).curves
    assert curves.information_epochs == moments
    assert len(curves.information) == len(moments)
    assert all(0 <= value <= np.log(600) for value in curves.information)


def test_information_of_the_trained_network(data):
    recipe = replace(ALONE, model="cnn", shift=1, information=1)
    trial = recipe.trials(data.summary.sha256)[0]
    result = train_trial(trial, data, lambda: None)
    network = load_network(TrainedNetwork(config=trial, weights=result.weights), data.summary)
    chance = torch.Generator().manual_seed(2**30 + trial.seed)
    labels = data.train.labels
    chosen = torch.cat([(labels == c).nonzero().squeeze(1)[:300] for c in (0, 1)])
    with torch.no_grad():
        values = [
            network(augmented(data.train.images[chosen], trial.settings, data.zero, chance))[:, :2]
            .diff(dim=1)
            .squeeze(1)
            .neg()
            for _ in range(11)
        ]
    expected = mutual_information(torch.stack(values[:10], -1), values[10])
    assert result.curves.information == (pytest.approx(expected, rel=1e-6),)


def test_looking_does_not_change_what_is_trained(data):
    recipe = replace(ALONE, model="mlp_dropout", shift=1)
    plain, looked = (
        train_trial(replace(recipe, information=n).trials(data.summary.sha256)[0], data, lambda: None)
        for n in (0, 3)
    )
    assert np.array_equal(plain.arrays.test_logits, looked.arrays.test_logits)


def test_every_objective_trains_in_a_study_and_is_reported(tmp_path):
    from labelsmooth.report import write_report

    also = (
        "others:0.1",
        "unigram:0.1",
        "class_conditional:0.1",
        "generalised:-0.2",
        "confidence_penalty:0.1",
        "max_suppression:0.1",
        "margin_smoothing:0.1:2",
        "brier_penalty:0.5",
        "sigmoids:0.1",
        "uniform:0.1+mixup:0.4",
    )
    recipe = Recipe(data="digits", model="cnn", eps=(0.0, 0.1), also=also, seeds=1, epochs=3)
    study = run_study(recipe, tmp_path)
    assert load_study(tmp_path).recipe == recipe
    arms = study.arms()
    assert list(arms)[:3] == ["hard", "uniform:0.1", "others:0.1"]
    logits = [trials[0].arrays.test_logits for trials in arms.values()]
    assert len({array.tobytes() for array in logits}) == 12  # each is a training of its own
    words = write_report(tmp_path).path.read_text()
    assert all(objective.name in words for objective in recipe.objectives)
