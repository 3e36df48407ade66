"""The networks that a study trains, each a body that makes features and a linear classifier on top."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelsmooth.errors import InputError
from labelsmooth.named import callable_of, module_sha256, told, top_module

Shape = tuple[int, ...]  # of one row: (channels, height, width) or (values,)

_CUSTOM = re.compile(r"\w+(\.\w+)*:\w+(:[\w.]+)?")  # module:factory or module:factory:layer
_ROWS = 8  # that a network of the user's own is tried on
_SMALLEST = 4  # pixels of a side, which the networks with convolutions halve twice


class Network(nn.Module):
    """Penultimate `features` of a body, and one `classifier` whose rows are the class templates.

    Args:
        body: from images to features.
        classifier: from features to logits.
        decayed: the parameters that weight decay applies to; None: all of them.
    """

    def __init__(
        self, body: nn.Module, classifier: nn.Linear, decayed: Iterable[Tensor] | None = None
    ) -> None:
        super().__init__()
        self.body = body
        self.classifier = classifier
        self._decayed = None if decayed is None else tuple(decayed)

    def features(
        self,
        images: Tensor,  # (N, C, H, W) or (N, D)
    ) -> Tensor:  # (N, F)
        features: Tensor = self.body(images)
        return features

    def forward(self, images: Tensor) -> Tensor:  # (N, K)
        logits: Tensor = self.classifier(self.features(images))
        return logits

    def is_decayed(self, parameter: Tensor) -> bool:
        """Whether weight decay applies to this parameter."""
        return self._decayed is None or any(parameter is other for other in self._decayed)


class _UserNetwork(Network):
    """A network of the user's own; its features are what goes into its classifier."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        return logits

    def features(self, images: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hook = self.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            self.body(images)
        finally:
            hook.remove()
        if len(seen) != 1:
            (name,) = (name for name, layer in self.body.named_modules() if layer is self.classifier)
            raise InputError(
                f"the classifier of a network must be used once for a batch, {name} was {len(seen)} times; "
                "name another layer, as in module:factory:layer"
            )
        return seen[0]


def _mlp(width: int, dropout: bool = False) -> Callable[[Shape, int], Network]:
    def build(shape: Shape, num_classes: int) -> Network:
        layers: list[nn.Module] = [nn.Flatten()]
        if dropout:
            layers.append(nn.Dropout(0.2))
        for inputs in (math.prod(shape), width):
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(0.5))
        return Network(nn.Sequential(*layers), nn.Linear(width, num_classes))

    return build


def _linear(shape: Shape, num_classes: int) -> Network:
    return Network(nn.Flatten(), nn.Linear(math.prod(shape), num_classes))


def _cnn(shape: Shape, num_classes: int) -> Network:
    channels, height, width = _image_shape("cnn", shape)
    body = nn.Sequential(
        nn.Conv2d(channels, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 128),
        nn.ReLU(),
    )
    return Network(body, nn.Linear(128, num_classes))


class _LocalResponse(nn.Module):
    """x / (1 + α·Σ x²)^β over the 4 channels on each side, as `tf.nn.lrn` at depth radius 4.

    A convolution with a band of ones sums the squares: four times as fast as torch's LocalResponseNorm on a
    CPU, and with a deterministic gradient on every device.
    """

    band: Tensor

    def __init__(self, channels: int, alpha: float = 0.001 / 9, beta: float = 0.75) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        number = torch.arange(channels)
        near = (number[:, None] - number).abs() <= 4
        self.register_buffer("band", near.float()[:, :, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images * (1 + self.alpha * F.conv2d(images.square(), self.band)).pow(-self.beta)


def _alexnet(shape: Shape, num_classes: int) -> Network:
    """The network of TensorFlow's CIFAR-10 tutorial, which Müller et al. 2019 call AlexNet.

    Layers, initial values and the two matrices that are decayed are those of the tutorial (tensorflow/models,
    tutorials/image/cifar10, r1.13). Its pooling pads an even side by one pixel at the end, which is
    `ceil_mode` here.
    """
    channels, height, width = _image_shape("alexnet", shape)
    first = nn.Conv2d(channels, 64, kernel_size=5, padding=2)
    second = nn.Conv2d(64, 64, kernel_size=5, padding=2)
    third = nn.Linear(64 * (height // 4) * (width // 4), 384)
    fourth = nn.Linear(384, 192)
    classifier = nn.Linear(192, num_classes)
    for layer, deviation, bias in (
        (first, 0.05, 0.0),
        (second, 0.05, 0.1),
        (third, 0.04, 0.1),
        (fourth, 0.04, 0.1),
        (classifier, 1 / 192, 0.0),
    ):
        nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        nn.init.constant_(cast("Tensor", layer.bias), bias)
    body = nn.Sequential(
        first,
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        _LocalResponse(64),
        second,
        nn.ReLU(),
        _LocalResponse(64),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        nn.Flatten(),
        third,
        nn.ReLU(),
        fourth,
        nn.ReLU(),
    )
    return Network(body, classifier, decayed=(third.weight, fourth.weight))


class _Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut without parameters (option A of He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.new = outputs - inputs
        self.convolutions = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size=3, stride=self.stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        shortcut = images[:, :, :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new))  # the new channels are zeros
        return F.relu(self.convolutions(images) + shortcut)


class _MeanOverPixels(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


def _resnet56(shape: Shape, num_classes: int) -> Network:
    """ResNet-56 for CIFAR of He et al. 2016, §4.2: three stages of nine blocks with 16, 32, 64 channels."""
    channels, _, _ = _image_shape("resnet56", shape)
    layers: list[nn.Module] = [
        nn.Conv2d(channels, 16, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
    ]
    inputs = 16
    for outputs in (16, 32, 64):
        for _ in range(9):
            layers.append(_Block(inputs, outputs))
            inputs = outputs
    body = nn.Sequential(*layers, _MeanOverPixels())
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return Network(body, nn.Linear(64, num_classes))


def _image_shape(model: str, shape: Shape) -> Shape:
    if len(shape) != 3 or min(shape[1:]) < _SMALLEST:
        raise InputError(
            f"the model {model} needs images of at least {_SMALLEST}×{_SMALLEST} pixels, "
            f"got rows of shape {shape}"
        )
    return shape


PARTLY_DECAYED = ("alexnet",)  # weight decay applies to some of their matrices only
MODELS: dict[str, Callable[[Shape, int], Network]] = {
    # The MNIST networks of Hinton et al. 2015, §3, and Müller et al. 2019, §4: a teacher of two layers of
    # 1200 with dropout, a student of two layers of 800 without. The rates of dropout are those of Hinton et
    # al. 2012, to whom the first refer: 0.2 of the inputs, 0.5 of the hidden units.
    "mlp": _mlp(1200),
    "mlp_dropout": _mlp(1200, dropout=True),
    "mlp800": _mlp(800),
    # softmax regression on the rows as they are: the last layer alone, on features that were made before
    "linear": _linear,
    "cnn": _cnn,
    "alexnet": _alexnet,
    "resnet56": _resnet56,
}


def check_model(model: str) -> None:
    """Check that `model` is the name of a network, or has the form of one of the user's own.

    Raises:
        ValueError: it is neither.
    """
    if model not in MODELS and not _CUSTOM.fullmatch(model):
        raise InputError(
            f"model must be one of {', '.join(MODELS)}, or module:factory of your own, got {model!r}"
        )


def model_sha256(model: str) -> str:
    """A hash of the file that a network of the user's own comes from; nothing for a name in `MODELS`.

    Raises:
        ValueError: there is no such module.
    """
    return "" if model in MODELS else module_sha256(model)


def own_modules(model: str) -> list[str]:
    """Name the top-level module or package of a network of the user's own; none for a name in `MODELS`."""
    return [] if model in MODELS else [top_module(model)]


def build_network(model: str, shape: Shape, num_classes: int, seed: int) -> Network:
    """A freshly initialised network whose weights depend on the seed alone.

    Args:
        model: a name in `MODELS`; or `module:factory`, where `factory(shape, num_classes)`, or
            `factory(num_classes=…)` where it takes no shape, returns a torch.nn.Module whose logits come from
            its last torch.nn.Linear in the order of `named_modules`; or `module:factory:layer`, where `layer`
            is the name of that one.
        shape: of one row: (channels, height, width) or (values,).
        num_classes: at least 2.
        seed: of the initial weights; torch's global random state is left as it was.

    Returns:
        The network, on the CPU and in training mode.

    Raises:
        ValueError: the model cannot take rows of this shape, or there is none of this name, or its logits are
            not what one linear layer puts out.
    """
    check_model(model)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if model in MODELS:
            network = MODELS[model](shape, num_classes)
            # so that convolutions and pools vectorise over the channels: a fifth to a third faster on a CPU
            return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
        return _user_network(model, shape, num_classes)


def _user_network(model: str, shape: Shape, num_classes: int) -> Network:
    layer = [*model.split(":"), ""][2]
    factory = callable_of(model)
    try:
        body = _made(factory, shape, num_classes)
    except Exception as error:  # whatever the user's own code raises
        raise InputError(f"{model} raised {told(error)}") from error
    if not isinstance(body, nn.Module):
        raise InputError(f"{model} must return a torch.nn.Module, got {type(body).__name__}")
    chosen, classifier = _classifier(body, model, layer)
    if not any(parameter.requires_grad for parameter in body.parameters()):
        raise InputError(f"{model} must have a parameter to train, got none that requires a gradient")
    network = _UserNetwork(body, classifier)
    _check_logits(network, model, chosen, shape, num_classes)
    return network.train()


def _made(factory: Callable[..., object], shape: Shape, num_classes: int) -> object:
    """Call a factory(shape, num_classes), or one that takes the second by its name only.

    Such are those of torchvision and timm, whose first argument, where they have one, is something else.
    """
    try:
        signature = inspect.signature(factory)
        signature.bind(shape, num_classes)
    except ValueError:  # it has no signature that could be read
        return factory(shape, num_classes)
    except TypeError:
        return factory(num_classes=num_classes)
    if next(iter(signature.parameters)) == "num_classes":
        return factory(num_classes=num_classes)
    return factory(shape, num_classes)


def _classifier(body: nn.Module, model: str, layer: str) -> tuple[str, nn.Linear]:
    """The layer that makes the logits, with its name."""
    named = dict(body.named_modules())
    linear = [name for name, module in named.items() if isinstance(module, nn.Linear)]
    chosen = layer or (linear[-1] if linear else "")
    found = named.get(chosen)
    if not isinstance(found, nn.Linear):
        raise InputError(
            f"the classifier of {model} must be a torch.nn.Linear; "
            f"it has {', '.join(linear) or 'none'}" + (f", and {layer} is not among them" if layer else "")
        )
    return chosen, found


def _check_logits(network: Network, model: str, chosen: str, shape: Shape, num_classes: int) -> None:
    # enough for networks that normalise over parts of a batch
    images = torch.linspace(-1, 1, _ROWS * math.prod(shape)).reshape(_ROWS, *shape)
    try:
        with torch.no_grad():
            logits, again = network.eval()(images), network(images)
            # with copies of what batch normalisation gathers, so that looking changes nothing
            buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
            in_training = torch.func.functional_call(network.train(), buffers, (images,))
    except Exception as error:  # whatever the user's own code raises
        raise InputError(f"{model} cannot take rows of shape {shape}: it raised {told(error)}") from error
    for found, when in ((logits, ""), (in_training, " in training")):
        if not isinstance(found, Tensor) or found.shape != (_ROWS, num_classes):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"{model} must return logits of shape (rows, {num_classes}){when}, got {got} for {_ROWS} rows"
            )
    if not logits.isfinite().all():
        raise InputError(f"{model} must return finite logits for images in [-1, 1]")
    if not torch.equal(logits, again):
        raise InputError(f"{model} must give the same logits for the same images once it is trained")
    layer = network.classifier
    with torch.no_grad():
        features = network.eval().features(images)
    if (
        layer.out_features != num_classes
        or features.shape != (_ROWS, layer.in_features)
        or not torch.allclose(logits, layer(features), rtol=1e-4, atol=1e-5)
    ):
        raise InputError(
            f"the logits of {model} must be what a linear layer puts out, and {chosen} does not make them; "
            "name the layer that does, as in module:factory:layer, and leave out what follows it"
        )
