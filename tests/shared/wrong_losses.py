"""Losses with one mistake each, as people have made them or might."""

import random

import torch
import torch.nn.functional as F
from torch import nn

EPS = 0.1


def one_hot(labels, z):
    return F.one_hot(labels, z.shape[-1]).to(z.dtype)


def uniform(labels, z, eps=EPS):
    return (1 - eps) * one_hot(labels, z) + eps / z.shape[-1]


def ce(z, q):
    return -(q * z.log_softmax(-1)).sum(-1)


def parts(z, y):
    """The negative log-likelihood of each row, and its mean over the classes."""
    log_p = z.log_softmax(-1)
    return -log_p.gather(-1, y[:, None])[:, 0], -log_p.mean(-1)


def sum_over_classes(z, y):
    nll, smooth = parts(z, y)
    return ((1 - EPS) * nll + EPS * smooth * z.shape[-1]).mean()


def fill_without_k(z, y):
    q = torch.full_like(z, EPS).scatter(-1, y[:, None], 1 - EPS)
    return ce(z, q).mean()


def eps_added_to_all(z, y):
    return ce(z, one_hot(y, z) + EPS).mean()


def kl_mean(z, y):
    return F.kl_div(z.log_softmax(-1), uniform(y, z), reduction="mean")


def kl_batchmean(z, y):
    return F.kl_div(z.log_softmax(-1), uniform(y, z), reduction="batchmean")


def twice(z, y):
    return F.cross_entropy(z, uniform(y, z), label_smoothing=EPS)


def twice_others(z, y):
    def others(q):
        return (1 - EPS) * q + EPS / (z.shape[-1] - 1) * (1 - q)

    return ce(z, others(others(one_hot(y, z)))).mean()


def twice_mixed(z, y):
    k = z.shape[-1]
    q = torch.full_like(z, EPS / (k - 1)).scatter(-1, y[:, None], 1 - EPS)
    return F.cross_entropy(z, q, label_smoothing=EPS)


def divided_twice(z, y):
    nll, smooth = parts(z, y)
    return ((1 - EPS) * nll + EPS * smooth / z.shape[-1]).mean()


def hard_term_whole(z, y):
    nll, smooth = parts(z, y)
    return (nll + EPS * smooth).mean()


def k_minus_1_and_own(z, y):
    k = z.shape[-1]
    return ce(z, (1 - EPS + EPS / k) * one_hot(y, z) + EPS / (k - 1) * (1 - one_hot(y, z))).mean()


def k_minus_2_without_pad(z, y):
    k = z.shape[-1]
    return ce(z, (1 - EPS) * one_hot(y, z) + EPS / (k - 2) * (1 - one_hot(y, z))).mean()


def binary_formula(z, y):
    return ce(z, one_hot(y, z) * (1 - EPS) + EPS / 2).mean()


def swapped(z, y, label_smoothing=EPS):
    nll, smooth = parts(z, y)
    return (label_smoothing * nll + (1 - label_smoothing) * smooth).mean()


def smooth_term_lost(z, y, label_smoothing=EPS):
    return ((1 - label_smoothing) * parts(z, y)[0]).mean()


def negative(z, y):
    return -F.cross_entropy(z, y, label_smoothing=EPS)


def halved(z, y):
    return 0.5 * F.cross_entropy(z, y, label_smoothing=EPS)


def in_bits(z, y):
    return F.cross_entropy(z, y, label_smoothing=EPS) / torch.log(torch.tensor(2.0, dtype=torch.float64))


def mean_over_classes(z, y):
    return ce(z, uniform(y, z)).sum() / z.shape[-1]


def constant_added(z, y):
    return F.cross_entropy(z, y, label_smoothing=EPS) + 1


def uniform_term_leaks(z, y):
    nll, smooth = F.cross_entropy(z, y, reduction="sum"), -z.log_softmax(-1).mean(-1).sum()
    return ((1 - EPS) * nll + EPS * smooth) / (y != -100).sum().clamp(min=1)


def ignored_in_mean(z, y):
    return F.cross_entropy(z, y, label_smoothing=EPS, reduction="none").mean()


def ignored_constant(z, y):
    rows = F.cross_entropy(z, y, label_smoothing=EPS, reduction="none")
    return (rows + 0.3 * (y == -100)).sum() / (y != -100).sum()


def ignored_as_class_0(z, y):
    return F.cross_entropy(z, y.clamp(min=0), label_smoothing=EPS)


def weight_on_hard_term(z, y, weight=None):
    nll, smooth = F.cross_entropy(z, y, weight=weight, reduction="none"), parts(z, y.clamp(min=0))[1]
    return ((1 - EPS) * nll + EPS * smooth).mean()


def weight_squared(z, y, weight=None):
    return F.cross_entropy(z, y, weight=None if weight is None else weight**2, label_smoothing=EPS)


def weight_of_nothing(z, y, weight=None):
    return F.cross_entropy(z, y, label_smoothing=EPS)


def two_softmaxes(z, y):
    return F.cross_entropy(z.softmax(-1), y, label_smoothing=EPS)


def softmax_over_rows(z, y):
    return -(uniform(y, z) * z.log_softmax(0)).sum(-1).mean()


def no_softmax(z, y):
    return -(uniform(y, z) * z).sum(-1).mean()


def hidden_temperature(z, y):
    return F.cross_entropy(z / 2, y, label_smoothing=EPS)


def focal(z, y):
    nll = F.cross_entropy(z, y, reduction="none")
    return ((1 - (-nll).exp()) ** 2 * nll).mean()


def log_of_softmax(z, y):
    return -(uniform(y, z) * z.softmax(-1).log()).sum(-1).mean()


def log_with_offset(z, y):
    return -(uniform(y, z) * (z.softmax(-1) + 1e-8).log()).sum(-1).mean()


def log_with_large_offset(z, y):
    return -(uniform(y, z) * (z.softmax(-1) + 1e-6).log()).sum(-1).mean()


def without_maximum(z, y):
    log_p = z - z.exp().sum(-1, keepdim=True).log()
    return -(uniform(y, z) * log_p).sum(-1).mean()


def hard_times_log(z, y):
    return -(one_hot(y, z) * z.log_softmax(-1)).sum(-1).mean()


def sum_in_half(z, y):
    log_p = z.log_softmax(-1)
    total = torch.zeros_like(z[:, 0])
    for column in log_p.unbind(-1):
        total = total + column
    return -((1 - EPS) * log_p.gather(-1, y[:, None])[:, 0] + EPS * total / z.shape[-1]).mean()


def label_plus_1(z, y):
    return F.cross_entropy(z, (y + 1) % z.shape[-1], label_smoothing=EPS)


def labels_from_1(z, y):
    return F.cross_entropy(z, (y - 1) % z.shape[-1], label_smoothing=EPS)


def label_out_of_range(z, y):
    return F.cross_entropy(z, y + 1, label_smoothing=EPS)


def next_token(z, y):
    return F.cross_entropy(z[:-1], y[1:], label_smoothing=EPS)


def writes_logits(z, y):
    with torch.no_grad():
        z -= z.amax(-1, keepdim=True)
    return F.cross_entropy(z, y, label_smoothing=EPS)


def writes_labels(z, y):
    loss = F.cross_entropy(z, y.clone(), label_smoothing=EPS)
    y[y == 0] = 1
    return loss


def hardest_rows(z, y):
    rows = F.cross_entropy(z, y, label_smoothing=EPS, reduction="none")
    return rows.topk(3).values.sum() / len(rows)


def centred_over_batch(z, y):
    return F.cross_entropy(z - z.mean(0), y, label_smoothing=EPS)


def dense_not_smoothed(z, y):
    return ce(z, y).mean() if y.is_floating_point() else F.cross_entropy(z, y, label_smoothing=EPS)


def dense_cut_to_index(z, y):
    return F.cross_entropy(z, y.argmax(-1) if y.is_floating_point() else y, label_smoothing=EPS)


def padding_divided_wrong(z, y):
    q = torch.full_like(z, EPS / (z.shape[-1] - 1)).scatter(-1, y[:, None], 1 - EPS)
    q[:, 0] = 0
    q[y == 0] = 0
    return ce(z, q).sum() / (y != 0).sum()


def padding_smoothed(z, y):
    return F.cross_entropy(z, y, ignore_index=0, label_smoothing=EPS)


def prior_by_class(z, y):
    prior = torch.arange(1.0, z.shape[-1] + 1)
    return ce(z, (1 - EPS) * one_hot(y, z) + EPS * (prior / prior.sum()).to(z.dtype)).mean()


def eps_by_label(z, y):
    eps = EPS * (1 + y[:, None] % 2)
    return ce(z, (1 - eps) * one_hot(y, z) + eps / z.shape[-1]).mean()


def fixed_number_of_classes(z, y):
    return ce(z, (1 - EPS) * one_hot(y, z) + EPS / 1000).mean()


def logits_clamped(z, y):
    return F.cross_entropy(z.clamp(-10, 10), y, label_smoothing=EPS)


def divided_by_root(z, y):
    return F.cross_entropy(z, y, label_smoothing=EPS, reduction="sum") / len(y) ** 0.5


class _WrongSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, q):
        ctx.save_for_backward(z, q)
        return -(q * z.log_softmax(-1)).sum(-1).mean()

    @staticmethod
    def backward(ctx, grad):
        z, q = ctx.saved_tensors
        return grad * (q - z.softmax(-1)) / len(z), None


class _NoFactor(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, q):
        ctx.save_for_backward(z, q)
        return -(q * z.log_softmax(-1)).sum(-1).mean()

    @staticmethod
    def backward(ctx, grad):
        z, q = ctx.saved_tensors
        return grad * (z.softmax(-1) - q), None


def wrong_sign_of_gradient(z, y):
    return _WrongSign.apply(z, uniform(y, z))


def gradient_without_mean(z, y):
    return _NoFactor.apply(z, uniform(y, z))


def smooth_term_detached(z, y):
    nll, smooth = parts(z, y)
    return ((1 - EPS) * nll + EPS * smooth.detach()).mean()


class SmoothingInEval(nn.Module):
    def forward(self, z, y):
        return F.cross_entropy(z, y, label_smoothing=0.0 if self.training else EPS)


class Counting(nn.Module):
    """Its ε grows with every call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, z, y):
        self.calls += 1
        return F.cross_entropy(z, y, label_smoothing=float(self.calls) / 10)


def sigmoid_mass_off(z, y):
    return F.binary_cross_entropy_with_logits(z, y * (1 - EPS - EPS / 2) + EPS / 2)


def sigmoid_only_positives(z, y):
    return F.binary_cross_entropy_with_logits(z, y * (1 - EPS))


def sigmoid_sum_over_labels(z, y):
    return F.binary_cross_entropy_with_logits(z, y * (1 - EPS) + EPS / 2, reduction="none").sum(-1).mean()


def sigmoid_with_clamp(z, y):
    p = z.sigmoid()
    q = y * (1 - EPS) + EPS / 2
    return -(q * p.log() + (1 - q) * (1 - p).log()).mean()


def drops_at_random(z, y):
    keep = torch.rand(len(y)) < 0.5
    return (F.cross_entropy(z, y, label_smoothing=EPS, reduction="none") * keep).mean()


def draws_from_python(z, y):
    return F.cross_entropy(z, y, label_smoothing=random.random())
