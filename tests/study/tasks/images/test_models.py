"""The networks of a study, and those of a user's own: what they compute, and what is said of one that cannot."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trials import changed

from labelsmooth.study import Recipe, load_study, run_study
from labelsmooth.study.optimizer import make_optimizer
from labelsmooth.study.tasks.images.data import Rows, load_data
from labelsmooth.study.tasks.images.models import MODELS, PARTLY_DECAYED, build_network, model_sha256
from labelsmooth.study.training import train_trial
from labelsmooth.study.trial import TrialResult

OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, inputs, num_classes):
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 20), nn.BatchNorm1d(20), nn.ReLU())
        self.head = nn.Linear(20, num_classes, bias=False)
        self.unused = nn.Linear(20, 2)

    def forward(self, images):
        return self.head(self.hidden(images))

def make(shape, num_classes):
    return Net(torch.Size(shape).numel(), num_classes)

def plain(shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, num_classes))

class Scaled(Net):
    def forward(self, images):
        return 2 * super().forward(images)

class Twice(Net):
    def forward(self, images):
        self.head(self.hidden(images))
        return super().forward(images)

scaled = lambda shape, num_classes: Scaled(torch.Size(shape).numel(), num_classes)
twice = lambda shape, num_classes: Twice(torch.Size(shape).numel(), num_classes)
two_more = lambda shape, num_classes: make(shape, num_classes + 2)
wrong_inputs = lambda shape, num_classes: make((5,), num_classes)
no_module = lambda shape, num_classes: "a network"
class Auxiliary(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(36, num_classes)

    def forward(self, images):
        logits = self.head(images.flatten(1))
        return (logits, logits) if self.training else logits

class Random(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(36, num_classes)

    def forward(self, images):
        return self.head(nn.functional.dropout(images.flatten(1)))

class Infinite(nn.Linear):
    def forward(self, images):
        return super().forward(images.flatten(1) / 0)

infinite = lambda shape, num_classes: Infinite(36, num_classes)
lazy = lambda shape, num_classes: nn.Sequential(
    nn.Flatten(), nn.LazyLinear(32), nn.LazyBatchNorm1d(), nn.ReLU(), nn.Linear(32, num_classes)
)
auxiliary = lambda shape, num_classes: Auxiliary(num_classes)
random = lambda shape, num_classes: Random(num_classes)
frozen = lambda shape, num_classes: nn.Sequential(nn.Flatten(), nn.Linear(36, num_classes)).requires_grad_(False)
raises = lambda shape: None
no_linear = lambda shape, num_classes: nn.Flatten()
pair = lambda shape, num_classes: Pair(torch.Size(shape).numel(), num_classes)

class Pair(Net):
    def forward(self, images):
        return super().forward(images), None

class Viewed(nn.Module):
    def __init__(self, channels, num_classes):
        super().__init__()
        self.convolution = nn.Conv2d(channels, 4, 3, stride=2)
        self.head = nn.Linear(36, num_classes)

    def forward(self, images):
        return self.head(self.convolution(images).view(len(images), -1).relu())

class Rectified(nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        self.head = nn.Linear(width, num_classes)

    def forward(self, rows):
        return self.head(rows.relu())

rectified = lambda shape, num_classes: Rectified(*shape, num_classes)
viewed = lambda shape, num_classes: Viewed(shape[0], num_classes)

number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The folder of a module `own_nets`, which can be imported."""
    (tmp_path / "own_nets.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("own_nets", None)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def train(model: str, **changes) -> TrialResult:
    data = load_data("digits")
    if model in ("alexnet", "resnet56"):  # large ones
        few = Rows(images=data.train.images[:128], labels=data.train.labels[:128])
        data = replace(data, train=few, validation=few, test=few)
    config = Recipe(data="digits", model=model, eps=(0.0, 0.1), epochs=2).trials(data.summary.sha256)[0]
    return train_trial(changed(config, **changes), data, lambda: None)


def test_a_network_whose_classes_coincide_is_no_result(own):
    """Of three of four classes all features are 0: their means have no shape."""
    y = np.arange(80) % 4
    np.savez(
        own / "rows.npz",
        x=np.where(y == 3, 5.0, -1.0)[:, None] + np.random.default_rng(0).random((80, 5)),
        y=y,
    )
    data = load_data(f"npz:{own / 'rows.npz'}")
    recipe = Recipe(data="rows", model="own_nets:rectified", eps=(0.0,), epochs=1)
    with pytest.raises(ValueError, match="cannot be measured") as raised:
        train_trial(recipe.trials(data.summary.sha256)[0], data, lambda: None)
    assert str(raised.value) == (
        "the network of own_nets:rectified on hard, seed 0 cannot be measured, as "
        "validation.nc2_triangle, train.nc2_triangle cannot be told: it broke down, "
        "perhaps because the learning rate 0.1 is too large"
    )


@pytest.mark.parametrize("model", MODELS)
def test_logits_are_linear_in_the_features(model):
    network = build_network(model, (1, 12, 10), num_classes=5, seed=0).eval()
    images = draw(3, 1, 12, 10)
    features = network.features(images)
    assert isinstance(network.classifier, nn.Linear)
    expected = features @ network.classifier.weight.T + network.classifier.bias
    assert torch.allclose(network(images), expected, atol=1e-6)
    assert network(images).shape == (3, 5)


def test_looking_at_a_network_changes_nothing_that_it_gathers(own):
    network = build_network("own_nets:lazy", (1, 6, 6), num_classes=10, seed=0)
    buffers = dict(network.named_buffers())
    assert {name.rpartition(".")[2] for name in buffers} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    assert {float(buffer.sum()) for buffer in buffers.values()} == {0.0, 32.0}


def test_the_networks_of_which_only_a_part_decays_are_named():
    networks = {model: build_network(model, (1, 12, 10), num_classes=5, seed=0) for model in MODELS}
    assert (
        tuple(
            model
            for model, network in networks.items()
            if not all(map(network.is_decayed, network.parameters()))
        )
        == PARTLY_DECAYED
    )


@pytest.mark.parametrize(("model", "width"), [("mlp", 1200), ("mlp_dropout", 1200), ("mlp800", 800)])
def test_the_mlps_are_those_of_the_papers(model, width):
    network = build_network(model, (1, 28, 28), num_classes=10, seed=0)
    shapes = [tuple(layer.weight.shape) for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [(width, 784), (width, width), (10, width)]
    layers = [layer for layer in network.body if not isinstance(layer, nn.Flatten)]
    rates = [layer.p for layer in layers if isinstance(layer, nn.Dropout)]
    assert rates == ([0.2, 0.5, 0.5] if model == "mlp_dropout" else [])
    if rates:  # of the inputs, and behind each ReLU
        assert [type(layers[place]) for place in (0, 3, 6)] == [nn.Dropout] * 3


def same_padding(side: int) -> tuple[int, int]:
    """What TensorFlow's SAME adds before and behind, for windows of 3 in steps of 2."""
    total = max((math.ceil(side / 2) - 1) * 2 + 3 - side, 0)
    return total // 2, total - total // 2


def pooled(images: np.ndarray) -> np.ndarray:  # (N, C, H, W)
    rows, columns = (same_padding(side) for side in images.shape[2:])
    padded = np.pad(images, ((0, 0), (0, 0), rows, columns), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows[:, :, ::2, ::2].max((-2, -1))


def normalised(images: np.ndarray) -> np.ndarray:
    """tf.nn.lrn(x, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75) by its documentation."""
    out = np.empty_like(images)
    for channel in range(images.shape[1]):
        near = images[:, max(channel - 4, 0) : channel + 5]
        out[:, channel] = images[:, channel] / (1 + 0.001 / 9 * (near**2).sum(1)) ** 0.75
    return out


@pytest.mark.parametrize("side", [24, 32, 28])
def test_alexnet_computes_what_the_tutorial_does(side):
    network = build_network("alexnet", (3, side, side), num_classes=10, seed=0)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in layers] == [
        (64, 3, 5, 5),
        (64, 64, 5, 5),
        (384, 64 * (side // 4) ** 2),
        (192, 384),
        (10, 192),
    ]
    images = 100 * draw(2, 3, side, side)  # so large that the normalisation matters
    weights = [(layer.weight.detach().double(), layer.bias.detach().double()) for layer in layers]
    hidden = F.conv2d(images.double(), *weights[0], padding=2).clamp(min=0).numpy()
    hidden = torch.from_numpy(normalised(pooled(hidden)))
    hidden = F.conv2d(hidden, *weights[1], padding=2).clamp(min=0).numpy()
    hidden = torch.from_numpy(pooled(normalised(hidden))).flatten(1)
    for weight, bias in weights[2:4]:
        hidden = (hidden @ weight.T + bias).clamp(min=0)
    with torch.no_grad():
        assert torch.allclose(network.features(images).double(), hidden, rtol=1e-4, atol=1e-4)


def test_alexnet_starts_as_in_the_tutorial_and_decays_two_matrices():
    network = build_network("alexnet", (3, 24, 24), num_classes=10, seed=0)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer, deviation, bias in zip(
        layers, (0.05, 0.05, 0.04, 0.04, 1 / 192), (0, 0.1, 0.1, 0.1, 0), strict=True
    ):
        # a normal distribution cut at two deviations has 0.8796 of the deviation
        assert float(layer.weight.detach().std()) == pytest.approx(0.8796 * deviation, rel=0.05)
        assert float(layer.weight.detach().abs().max()) <= 2 * deviation
        assert layer.bias.unique().tolist() == pytest.approx([bias])
    config = Recipe(weight_decay=0.004).trials("")[0]
    decayed, free = make_optimizer(network, config.settings).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.004, 0)
    assert [parameter.shape for parameter in decayed["params"]] == [(384, 2304), (192, 384)]
    assert len(free["params"]) == 8
    (everything,) = make_optimizer(build_network("cnn", (1, 8, 8), 10, seed=0), config.settings).param_groups
    assert everything["weight_decay"] == 0.004


def test_resnet56_is_that_of_the_paper():
    network = build_network("resnet56", (3, 32, 32), num_classes=10, seed=0)
    # by the table of He et al. 2016, §4.2, which gives 0.85M: convolutions without bias, two values a channel
    # of batch normalisation, shortcuts without any
    convolutions = 3 * 16 * 9 + 18 * 16 * 16 * 9 + 9 * (16 * 32 + 17 * 32 * 32) + 9 * (32 * 64 + 17 * 64 * 64)
    expected = convolutions + 2 * (19 * 16 + 18 * 32 + 18 * 64) + 65 * 10
    assert sum(parameter.numel() for parameter in network.parameters()) == expected == 853018
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 56
    for layer in layers[:-1]:  # He et al. 2015: deviation √(2 / inputs of a unit)
        inputs = layer.weight[0].numel()
        assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / inputs), rel=0.2)
    sides = []
    for stage in (9, 18, 27):
        network.body[2 + stage].register_forward_hook(lambda _m, _i, out: sides.append(tuple(out.shape[1:])))
    assert network.features(draw(2, 3, 32, 32)).shape == (2, 64)
    assert sides == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_the_shortcut_of_resnet56_is_every_second_pixel_and_zeros():
    network = build_network("resnet56", (1, 28, 28), num_classes=10, seed=0)
    block = network.body[3 + 9]  # the first of the second stage
    nn.init.zeros_(block.convolutions[4].weight)  # of the last normalisation, so that the branch is 0
    images = draw(2, 16, 28, 28)
    expected = torch.zeros(2, 32, 14, 14)
    expected[:, :16] = images[:, :, ::2, ::2].clamp(min=0)
    assert torch.equal(block(images), expected)


@pytest.mark.parametrize("model", ["cnn", "alexnet", "resnet56"])
@pytest.mark.parametrize("shape", [(784,), (1, 3, 28), (1, 28, 3)])
def test_a_model_that_cannot_take_the_rows(model, shape):
    with pytest.raises(ValueError, match=f"the model {model} needs images of at least 4×4 pixels") as raised:
        build_network(model, shape, num_classes=10, seed=0)
    assert str(shape) in str(raised.value)


@pytest.mark.parametrize("model", MODELS)
def test_weights_come_from_the_seed_alone(model):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, again, other = (build_network(model, (1, 8, 8), 10, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("model", ["alexnet", "resnet56", "mlp_dropout", "own_nets:plain"])
def test_the_same_seed_gives_the_same_bits(model, own):
    torch.manual_seed(7)
    changes = {"epochs": 1, "learning_rate": 0.01}
    one = train(model, **changes)
    torch.manual_seed(8)
    before = torch.get_rng_state()
    again = train(model, **changes)
    assert torch.equal(torch.get_rng_state(), before)
    assert (one.curves, one.metrics) == (again.curves, again.metrics)
    assert np.array_equal(one.arrays.test_logits, again.arrays.test_logits)


def test_dropout_is_drawn_alike_in_every_arm(own):
    hard, nearly_hard = train("own_nets:plain"), train("own_nets:plain", objective="uniform:1e-7")
    assert not np.array_equal(hard.arrays.test_logits, nearly_hard.arrays.test_logits)
    assert np.abs(hard.arrays.test_logits - nearly_hard.arrays.test_logits).max() < 1e-2


def test_a_network_of_the_users_own_is_studied(own, tmp_path):
    recipe = Recipe(data="digits", model="own_nets:make:head", eps=(0.0, 0.1), seeds=1, epochs=5)
    study = run_study(recipe, tmp_path / "out")
    trial = study.trials[0]
    assert trial.metrics["test"]["accuracy"] > 0.9
    assert trial.config.model_sha256 == model_sha256("own_nets:make:head") != ""
    arrays = trial.arrays
    assert arrays.classifier_weight.shape == (10, 20)
    assert arrays.classifier_bias.tolist() == [0] * 10  # it has none
    shown = np.concatenate([np.flatnonzero(arrays.validation_labels == label) for label in range(3)])
    logits = arrays.validation_features @ arrays.classifier_weight.T
    assert np.allclose(logits, arrays.validation_logits[shown], atol=1e-4)

    source = own / "own_nets.py"
    source.write_text(source.read_text() + "# another")
    again = run_study(recipe, tmp_path / "out")  # trained anew: its file is another one
    assert not {trial.config.id for trial in again.trials} & {trial.config.id for trial in study.trials}
    source.unlink()
    del sys.modules["own_nets"]
    assert len(load_study(tmp_path / "out").trials) == 2  # a study is read without the network's code


def test_only_networks_of_ours_lie_in_memory_with_their_channels_last(own):
    """A view of what a convolution puts out, as many networks have it, would raise there."""
    for model, last in (("own_nets:viewed", False), ("cnn", True), ("resnet56", True)):
        network = build_network(model, (3, 8, 8), num_classes=10, seed=0)
        convolution = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last) == last, model
    assert train("own_nets:viewed").metrics["test"]["accuracy"] > 0.15


@pytest.mark.parametrize("model", ["own_nets:make:head", "own_nets:plain", "own_nets:plain:4"])
def test_features_are_what_goes_into_the_classifier(own, model):
    network = build_network(model, (1, 6, 6), num_classes=10, seed=0)
    assert network.training
    network.eval()
    images = draw(4, 1, 6, 6)
    features = network.features(images)
    assert features.shape == (4, 20)
    assert torch.equal(network.classifier(features), network(images))
    assert not network.classifier._forward_pre_hooks
    assert len(list(network.parameters())) == len({id(parameter) for parameter in network.parameters()})


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("no_such_nets:make", "there is no module no_such_nets"),
        ("own_nets.more:make", "there is no module own_nets.more"),
        ("own_nets:absent", "has no function absent"),
        ("own_nets:number", "has no function number"),
        ("own_nets:no_module", "must return a torch.nn.Module, got str"),
        ("own_nets:no_linear", "must be a torch.nn.Linear; it has none"),
        ("own_nets:make:tail", "it has hidden.1, head, unused, and tail is not among them"),
        ("own_nets:make:hidden", "and hidden is not among them"),
        ("own_nets:make", "must be used once for a batch, unused was 0 times"),
        ("own_nets:twice:head", "must be used once for a batch, head was 2 times"),
        ("own_nets:plain:1", "must be what a linear layer puts out"),
        ("own_nets:scaled:head", "must be what a linear layer puts out, and head does not make them"),
        ("own_nets:auxiliary", "must return logits of shape (rows, 10) in training, got tuple for 8 rows"),
        ("own_nets:frozen", "must have a parameter to train, got none that requires a gradient"),
        ("own_nets:random", "must give the same logits for the same images once it is trained"),
        ("own_nets:raises", "own_nets:raises raised TypeError: "),
        ("own_nets:raises", "(models.py, line "),
        ("own_nets:infinite", "must return finite logits for images in [-1, 1]"),
        ("own_nets:two_more:head", "must return logits of shape (rows, 10), got (8, 12) for 8 rows"),
        ("own_nets:pair:head", "must return logits of shape (rows, 10), got tuple"),
        ("own_nets:wrong_inputs:head", "cannot take rows of shape (1, 6, 6)"),
    ],
)
def test_a_network_that_cannot_be_studied(own, model, says):
    with pytest.raises(ValueError, match="model|must|cannot|raised") as raised:
        build_network(model, (1, 6, 6), num_classes=10, seed=0)
    assert says in str(raised.value)


def test_a_package_that_the_users_module_lacks_is_not_its_own_absence(own):
    (own / "own_nets.py").write_text("import a_package_that_is_not_there")
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        build_network("own_nets:make", (1, 6, 6), num_classes=10, seed=0)


@pytest.mark.parametrize(
    "factory",
    [
        "def net(*, weights=None, progress=True, **kwargs):",  # as torchvision's
        "def net(pretrained=False, **kwargs):",  # as timm's
        "def net(num_classes=1000, width=3):",
        "def net(num_classes):",
    ],
)
def test_a_factory_that_takes_no_shape(tmp_path, monkeypatch, factory):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "no_shape", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = "num_classes" if "(num_classes" in factory else "kwargs['num_classes']"
    (tmp_path / "no_shape.py").write_text(
        f"from torch import nn\n{factory}\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, {found}))\n"
    )
    network = build_network("no_shape:net", (1, 8, 8), 7, seed=0)
    assert network.classifier.out_features == 7
    sys.modules.pop("no_shape")


def test_a_factory_is_called_once_for_a_trial_and_once_before_all(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "counted.py").write_text(
        "from torch import nn\ncalls = []\ndef net(shape, k):\n"
        "    calls.append(k)\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, k))\n"
    )
    recipe = Recipe(data="digits", model="counted:net", eps=(0.0, 0.1), seeds=1, epochs=1)
    run_study(recipe, tmp_path / "out", jobs=1)
    assert len(sys.modules.pop("counted").calls) == 3
