"""Mixtures in batches: moved, indexed, stacked, collated and handed over by those who load data."""

import copy
import pickle

import pytest
import pytorch_lightning as pl
import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader

import labelsmooth as ls

K = 4
TARGET = torch.tensor([0, 3, 1, 2, 3, 0])
PRIOR = torch.tensor([0.4, 0.3, 0.2, 0.1])
MIXTURES = {
    "numbers": ls.uniform(0.1)(TARGET, K),
    "prior": ls.prior(0.2, PRIOR)(TARGET, K),
    "table": ls.class_conditional(0.3, torch.eye(K).roll(1, 0))(TARGET, K),
    "dense": ls.uniform(0.1)(torch.rand(6, K).softmax(-1), K),
    "per row": ls.others(torch.linspace(0, 0.5, 6))(TARGET, K),
    "two": ls.mixup(TARGET, TARGET.flip(0), torch.rand(6), 0.1),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_rows_are_those_of_the_table(name):
    mixture = MIXTURES[name]
    table = mixture.dense(K)
    assert len(mixture) == 6
    for rows in (2, slice(1, 5, 2), [4, 0], torch.tensor([[5, 1]]), TARGET > 1, (..., None)):
        torch.testing.assert_close(
            mixture[rows].dense(K), table[(*rows, slice(None))] if isinstance(rows, tuple) else table[rows]
        )
    with pytest.raises(IndexError):
        mixture[6]
    with pytest.raises(IndexError):
        mixture[0, 0]  # not a column
    with pytest.raises(TypeError, match="single row"):
        len(mixture[0])


@pytest.mark.parametrize("name", MIXTURES)
def test_stacked_rows_are_the_batch(name):
    mixture = MIXTURES[name]
    stacked = ls.Mixture.stack([mixture[i] for i in range(6)])
    torch.testing.assert_close(stacked.dense(K), mixture.dense(K))
    if name in ("numbers", "prior"):  # what all rows share stays one
        assert stacked.weight == mixture.weight
        assert stacked.prior is mixture.prior


def test_priors_and_numbers_that_differ_become_tensors():
    other = PRIOR.flip(0)
    rows = [ls.prior(eps, p)(torch.tensor(1), K) for eps, p in ((0.1, PRIOR), (0.3, other))]
    hot = torch.nn.functional.one_hot(torch.tensor(1), K)
    expected = torch.stack([0.9 * hot + 0.1 * PRIOR, 0.7 * hot + 0.3 * other]).double()
    torch.testing.assert_close(ls.Mixture.stack(rows).dense(K), expected)


def test_mixtures_that_do_not_stack_are_refused():
    one, two = ls.uniform(0.1)(torch.tensor(1), K), MIXTURES["two"][0]
    for given in ([], [one, two], [one, MIXTURES["numbers"]], [one, ls.uniform(0.0)(torch.tensor(1), K)]):
        with pytest.raises(ValueError, match="stack"):
            ls.Mixture.stack(given)


@pytest.mark.parametrize("name", MIXTURES)
def test_to_moves_all_tensors_and_casts_those_of_floats(name, monkeypatch):
    mixture = MIXTURES[name]
    moved = mixture.to("meta")
    assert moved.device == torch.device("meta")
    assert {part.device.type for part in vars(moved).values() if isinstance(part, torch.Tensor)} == {"meta"}
    assert send_to_device(mixture, "meta").device.type == "meta"
    for part in vars(mixture.to(dtype=torch.float16)).values():
        assert not isinstance(part, torch.Tensor) or part.dtype in (torch.int64, torch.float16)
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda part: pinned.append(part) or part)
    torch.testing.assert_close(mixture.pin_memory().dense(K), mixture.dense(K))
    assert len(pinned) == sum(isinstance(part, torch.Tensor) for part in vars(mixture).values())
    for same in (copy.deepcopy(mixture), pickle.loads(pickle.dumps(mixture))):
        torch.testing.assert_close(same.dense(K), mixture.dense(K))


def test_its_text_has_shapes_and_no_values():
    assert (
        repr(MIXTURES["prior"])
        == "Mixture(index=int64(6, 1), weight=0.8, prior=float32(4,), prior_weight=0.2)"
    )


def test_a_compiled_function_takes_one():
    @torch.compile(fullgraph=True, backend="eager")
    def loss(logits, mixture):
        return ls.cross_entropy(logits, mixture[1:].to(torch.float32))

    logits, mixture = torch.randn(5, K), MIXTURES["per row"]
    torch.testing.assert_close(loss(logits, mixture), ls.cross_entropy(logits, mixture.dense(K)[1:]))


def test_torch_func_maps_over_its_rows():
    logits, mixture = torch.randn(6, K), MIXTURES["per row"]
    rows = torch.func.vmap(lambda z, row: ls.cross_entropy(z, row))(logits, mixture)
    torch.testing.assert_close(rows, ls.cross_entropy(logits, mixture, reduction="none"))


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, K)
        self.criterion = ls.CrossEntropyLoss(return_stats=True)
        self.losses = []

    def training_step(self, batch, _):
        x, mixture = batch
        loss, stats = self.criterion(self.layer(x), mixture)
        expected = torch.nn.functional.cross_entropy(self.layer(x), mixture.dense(K, torch.float32))
        self.losses.append((loss.detach(), expected.detach()))
        return {"loss": loss, "stats": stats, "target": mixture}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def made_in_collate(samples):
    x, labels = zip(*samples, strict=True)
    return torch.stack(x), ls.mixup(torch.stack(labels), torch.stack(labels[::-1]), 0.3, 0.1)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("collate", [None, made_in_collate])
def test_lightning_hands_over_what_the_loader_made(collate, tmp_path):
    labels = TARGET if collate else MIXTURES["prior"]
    loader = DataLoader([(torch.randn(3), labels[i]) for i in range(6)], 3, collate_fn=collate)
    model = Classifier()
    pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    ).fit(model, loader)  # fmt: skip
    assert len(model.losses) == 2
    for loss, expected in model.losses:
        torch.testing.assert_close(loss, expected)


def test_no_move_makes_whole_numbers_of_weights():
    mixture = ls.Mixture(
        index=torch.tensor([[2], [0]]), weight=torch.tensor([[0.9], [0.8]]), prior_weight=0.1
    )
    for labels in (torch.int64, torch.tensor([1, 2])):
        with pytest.raises(TypeError, match="floating-point weights, got the dtype torch.int64"):
            mixture.to(labels)
