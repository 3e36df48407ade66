"""The measures as `torchmetrics.Metric`: the numbers of the measures themselves, through all that such a metric goes through."""

import copy
import os
import pickle
import subprocess
import sys
from functools import cache

import pytest
import torch
import torch.distributed as dist
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

import labelsmooth as ls
from labelsmooth.integrations.torchmetrics import CALIBRATION, SELECTIVE, CalibrationMetric, SelectiveMetric
from labelsmooth.measure import Calibration, Selective
from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.row_stats import row_stats


@cache
def digits():
    """Log-probabilities of a scikit-learn classifier on the digits that it was not trained on, and labels."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    images, labels = load_digits(return_X_y=True)
    classifier = LogisticRegression(C=0.001, max_iter=2000).fit(images[:900], labels[:900])
    return torch.tensor(classifier.predict_log_proba(images[900:])), torch.tensor(labels[900:])


def batches():
    return list(zip(*(part.split(100) for part in digits()), strict=True))


METRICS = {"calibration": CalibrationMetric, "selective": SelectiveMetric}


def expected(logits=None, target=None):
    """What the measures give, of the selective ones on their grid."""
    calibration, selective = Calibration(), Selective(capacity=1)
    for measure in (calibration, selective):
        measure.update(*(digits() if logits is None else (logits, target)))
    result, areas = calibration.compute(), selective.compute()
    return {
        "calibration": {name: getattr(result, name) for name in CALIBRATION},
        "selective": {name: getattr(areas, name) for name in SELECTIVE},
    }


def assert_equal(computed, numbers, rel=1e-12):
    assert computed.keys() == numbers.keys()
    for name, value in numbers.items():
        assert computed[name].shape == ()
        assert computed[name].dtype == torch.float64
        assert float(computed[name]) == pytest.approx(value, rel=rel, abs=1e-15), name


@pytest.mark.parametrize("kind", METRICS)
def test_batches_give_the_numbers_of_all_rows(kind):
    metric = METRICS[kind]()
    for batch in batches():
        metric.update(*batch)
    assert_equal(metric.compute(), expected()[kind])
    metric.reset()
    metric.update(*batches()[0])
    assert_equal(metric.compute(), expected(*batches()[0])[kind])


@pytest.mark.parametrize("kind", METRICS)
def test_forward_gives_the_batch_and_keeps_the_rest(kind):
    metric = METRICS[kind]()
    for batch in batches():
        assert_equal(metric(*batch), expected(*batch)[kind])
    assert_equal(metric.compute(), expected()[kind])


@pytest.mark.parametrize("kind", METRICS)
def test_merging_pickles_copies_and_checkpoints(kind):
    one, two = METRICS[kind](), METRICS[kind]()
    for at, batch in enumerate(batches()):
        (one if at < 4 else two).update(*batch)
    one = pickle.loads(pickle.dumps(copy.deepcopy(one)))
    two.persistent(True)
    restored = METRICS[kind]()
    restored.persistent(True)
    restored.load_state_dict(two.state_dict())
    one.merge_state(restored)
    assert_equal(one.compute(), expected()[kind])


@pytest.mark.parametrize("kind", METRICS)
def test_states_sum_and_do_not_grow(kind):
    metric = METRICS[kind]()

    def size():
        return sum(state.numel() for state in metric.metric_state.values())

    before = size()
    for batch in batches():
        metric.update(*batch)
    assert size() == before
    assert all(isinstance(state, torch.Tensor) for state in metric.metric_state.values())
    assert all(reduce(torch.ones(2, 3)).tolist() == [2, 2, 2] for reduce in metric._reductions.values())
    # a cast of the model takes no digits away
    kept = {name: state.dtype for name, state in metric.half().metric_state.items()}
    assert set(kept.values()) <= {torch.int64, torch.float64}


def test_moves_with_its_module():
    """To the one other device that every machine has, which holds no values but takes every state."""
    module = torch.nn.ModuleDict({kind: make() for kind, make in METRICS.items()}).to("meta")
    assert {state.device.type for metric in module.values() for state in metric.metric_state.values()} == {
        "meta"
    }


def test_probabilities_by_the_callers_word():
    from_probs = CalibrationMetric(probs=True)
    logits, target = digits()
    from_probs.update(logits.exp(), target)
    assert_equal(from_probs.compute(), expected()["calibration"], rel=1e-9)
    with pytest.raises(ValueError, match="probs must lie in 0..1"):
        from_probs.update(logits, target)


def test_options_are_those_of_the_measure():
    metric = CalibrationMetric(("ece", "mce"), num_bins=7, edges="right_open")
    metric.update(*digits())
    calibration = Calibration(7, "right_open")
    calibration.update(*digits())
    result = calibration.compute()
    assert_equal(metric.compute(), {"ece": result.ece, "mce": result.mce})


def test_in_a_collection_beside_metrics_of_torchmetrics():
    collection = MetricCollection(
        {
            "accuracy": MulticlassAccuracy(10, average="micro"),
            "peer": MulticlassCalibrationError(10, n_bins=15),
            "ece": CalibrationMetric("ece", edges="right_open"),
            "nll": CalibrationMetric("nll", edges="right_open"),
            "aurc": SelectiveMetric("aurc"),
        },
        prefix="test_",
    )
    for batch in batches():
        collection.update(*batch)
    computed = collection.compute()
    # metrics with the same state share it, and others do not
    assert sorted(map(sorted, collection.compute_groups.values())) == [
        ["accuracy"],
        ["aurc"],
        ["ece", "nll"],
        ["peer"],
    ]
    numbers = expected()
    assert float(computed["test_aurc"]) == pytest.approx(numbers["selective"]["aurc"], rel=1e-12)
    assert float(computed["test_nll"]) == pytest.approx(numbers["calibration"]["nll"], rel=1e-12)
    assert float(computed["test_accuracy"]) == pytest.approx(numbers["calibration"]["accuracy"], rel=1e-6)
    assert float(computed["test_ece"]) == pytest.approx(float(computed["test_peer"]), abs=2e-7)


def test_a_collection_may_be_updated_and_called_in_turn():
    """The metrics of a collection share one state after an update, and each adds to it when called."""
    metrics = MetricCollection({name: CalibrationMetric(name) for name in ("ece", "nll")})
    for at, batch in enumerate(batches()):
        if at % 3 == 2:
            assert float(metrics(*batch)["nll"]) == expected(*batch)["calibration"]["nll"]
        else:
            metrics.update(*batch)
    numbers = expected()["calibration"]
    for name, value in metrics.compute().items():
        assert float(value) == pytest.approx(numbers[name], rel=1e-12)


def test_the_numbers_by_default_are_those_of_the_catalogue_that_can_be_good_or_bad():
    assert {"accuracy", "nll", "brier", "ece", "smece", "over_confidence"} <= set(CALIBRATION)
    assert SELECTIVE == ("aurc", "augrc", "excess_aurc")
    for name in (*CALIBRATION, *SELECTIVE):
        assert QUANTITIES[name].better is not None
    for kind, values in (("calibration", Calibration()), ("selective", Selective())):
        values.update(*digits())
        assert set(METRICS[kind]().quantities) <= values.values().keys()


def test_other_settings_never_share_a_state():
    """After a first batch that they bin alike, their states hold the same numbers."""
    collection = MetricCollection(
        {"left": CalibrationMetric("ece"), "right": CalibrationMetric("ece", edges="right_open")}
    )
    collection.update(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    border = torch.tensor([0.6, 0.4], dtype=torch.float64).log().expand(4, 2)  # 0.6 is a border of 15 bins
    collection.update(border, torch.tensor([0, 0, 0, 1]))
    assert len(collection.compute_groups) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CalibrationMetric("acc"), "quantities must be among .*accuracy.*, got 'acc'"),
        (lambda: SelectiveMetric(("aurc", "coverage")), "quantities must be among .*, got 'coverage'"),
        (lambda: CalibrationMetric(()), "at least one number"),
        (lambda: CalibrationMetric(num_bins=0), "num_bins"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.filterwarnings("ignore")  # its own, of this torch and of a loader without workers
def test_in_lightning(tmp_path):
    """Logged from a validation loop, with the numbers of the whole epoch."""
    lightning = pytest.importorskip("pytorch_lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.ece = CalibrationMetric("ece")
            self.both = MetricCollection([CalibrationMetric(("nll", "brier")), SelectiveMetric("aurc")])

        def validation_step(self, batch):
            self.ece(*batch)
            self.log("ece", self.ece, on_step=False, on_epoch=True)
            self.both.update(*batch)

        def on_validation_epoch_end(self):
            self.log_dict(self.both.compute())
            self.both.reset()

    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*digits()), batch_size=100)
    (logged,) = trainer.validate(Module(), loader, verbose=False)
    numbers = expected()
    assert logged["ece"] == pytest.approx(numbers["calibration"]["ece"], rel=1e-6)
    assert logged["nll"] == pytest.approx(numbers["calibration"]["nll"], rel=1e-6)
    assert logged["SelectiveMetric"] == pytest.approx(numbers["selective"]["aurc"], rel=1e-6)


# --- two processes


def one_of_two(folder, rank):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = (
        "lo" if sys.platform == "linux" else "lo0"
    )  # nothing leaves the machine
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        metrics = MetricCollection([make() for make in METRICS.values()])
        for logits, target in torch.load(f"{folder}/batches.pt")[rank::2]:  # five batches and four
            metrics.update(logits, target)
        torch.save(metrics.compute(), f"{folder}/{rank}.pt")
        dist.barrier()  # neither leaves while the other still talks to it
    finally:
        dist.destroy_process_group()


@pytest.mark.long
@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_have_the_numbers_of_one(tmp_path):
    torch.save(batches(), tmp_path / "batches.pt")
    # from interpreters of their own, to which no other test has done anything
    command = [sys.executable, __file__, str(tmp_path)]
    processes = [subprocess.Popen([*command, rank], stderr=subprocess.PIPE, text=True) for rank in "01"]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    numbers = expected()
    for rank in (0, 1):
        assert_equal(torch.load(tmp_path / f"{rank}.pt"), numbers["calibration"] | numbers["selective"])


if __name__ == "__main__":
    one_of_two(sys.argv[1], int(sys.argv[2]))


def as_cast(metric, cast):
    module = torch.nn.Module()
    module.metric = metric
    cast(module)
    return module.metric


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize(
    "cast",
    [
        lambda module: module.half(),
        lambda module: module.bfloat16(),
        lambda module: module.to(torch.float16),
        lambda module: module.to("cpu", torch.bfloat16),
        lambda module: module.metric.set_dtype(torch.float16),
        lambda module: module.type(torch.bfloat16),
    ],
)
def test_states_keep_their_precision_in_a_module_that_is_cast(kind, cast):
    metric = as_cast(METRICS[kind](), cast)
    assert {getattr(metric, name).dtype for name in metric._defaults} <= {torch.int64, torch.float64}
    for _ in range(3):  # more rows than half precision counts
        for batch in batches():
            metric.update(*batch)
    assert_equal(metric.compute(), expected(*(torch.cat([part] * 3) for part in digits()))[kind])


@pytest.mark.parametrize("kind", METRICS)
def test_statistics_of_a_loss_need_no_second_pass(kind):
    metric = METRICS[kind]()
    for logits, target in batches():
        metric.update(row_stats(logits, target[:, None], log_sum_sq=True, mean_logit=True))
    assert_equal(metric.compute(), expected()[kind])
    stats = row_stats(*(digits()[0], digits()[1][:, None]), log_sum_sq=True)
    with pytest.raises(TypeError, match="hold their labels, got a target beside them"):
        metric.update(stats, digits()[1])
    with pytest.raises(TypeError, match="target must be given with predictions, got none"):
        metric.update(digits()[0])


@pytest.mark.parametrize("kind", METRICS)
def test_ignored_pixels_of_maps_are_left_out(kind):
    logits, target = (part[:60] for part in digits())
    maps, labels = logits.T.reshape(1, -1, 6, 10), target.reshape(1, 6, 10).clone()
    labels[:, 3:] = 255
    metric = METRICS[kind](ignore_index=255, class_axis=1)
    metric.update(maps, labels)
    assert_equal(metric.compute(), expected(logits[:30], target[:30])[kind])


@pytest.mark.parametrize(
    ("kind", "quantities"), [("calibration", ["accuracy", "nll", "ece"]), ("selective", ["aurc", "augrc"])]
)
def test_weights_are_repeated_rows(kind, quantities):
    logits, target = digits()
    weight = target % 3
    metric = METRICS[kind](quantities)
    metric.update(logits, target, weight)
    repeated = METRICS[kind](quantities)
    repeated.update(logits.repeat_interleave(weight, 0), target.repeat_interleave(weight))
    numbers = {name: float(value) for name, value in repeated.compute().items()}
    assert_equal(metric.compute(), numbers, rel=1e-9)


def test_metrics_that_ignore_different_labels_share_no_state():
    metrics = MetricCollection(
        {"all": CalibrationMetric("accuracy"), "some": CalibrationMetric("accuracy", ignore_index=0)}
    )
    logits, labels = torch.randn(40, 3), torch.randint(1, 3, (40,))  # nothing to ignore in the first batch
    metrics.update(logits, labels)
    more, others = torch.randn(40, 3), torch.randint(0, 3, (40,))
    metrics.update(more, others)
    right = torch.cat([logits, more]).argmax(-1) == torch.cat([labels, others])
    kept = torch.cat([labels, others]) != 0
    found = metrics.compute()
    assert float(found["all"]) == pytest.approx(float(right.double().mean()), rel=1e-12)
    assert float(found["some"]) == pytest.approx(float(right[kept].double().mean()), rel=1e-12)


def test_an_ignored_label_is_left_out_of_statistics_too():
    logits, labels = torch.randn(40, 3), torch.randint(0, 3, (40,))
    _, stats = ls.cross_entropy(logits, labels, return_stats=True)
    metric, weighted = CalibrationMetric("nll", ignore_index=0), CalibrationMetric("nll", ignore_index=0)
    metric.update(stats)
    weight = torch.rand(40)
    weighted.update(stats, weight=weight)
    losses = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none")
    kept = labels != 0
    assert float(metric.compute()) == pytest.approx(float(losses[kept].mean()), rel=1e-6)
    expected = (weight * losses)[kept].sum() / weight[kept].sum()
    assert float(weighted.compute()) == pytest.approx(float(expected), rel=1e-6)
