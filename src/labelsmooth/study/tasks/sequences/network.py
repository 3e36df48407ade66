"""Networks of the library transformers that predict tokens, ours and the user's own."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.files import reading
from labelsmooth.named import callable_of, module_sha256, told, top_module
from labelsmooth.objectives import LinearOutput
from labelsmooth.study.tasks.places import local_path
from labelsmooth.study.tasks.sequences.sentences import UNCOUNTED, Inputs, Sentences
from labelsmooth.study.tasks.sequences.vocabulary import Vocabulary

_FACTORY = re.compile(r"\w+(\.\w+)*:\w+")
_FOLDER = "hf:"
_TOGETHER = 64  # sentences that are predicted at a time
_LONGER = 100.0  # times, of the states by which a network is checked


class TokenSummary(Protocol):
    """What a network has to know of its targets."""

    @property
    def num_classes(self) -> int: ...
    @property
    def pad(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...


class TokenNetwork(nn.Module, ABC):
    """A model that predicts tokens with one linear layer on top, which makes the logits.

    Args:
        body: a model of transformers.
        start: the token that stands before the first.
        pad: the token that fills up a batch.
    """

    words: ClassVar[str]  # what messages call the body
    first_token: ClassVar[str]  # as its config calls the token that stands before the first
    ahead: ClassVar[int]  # places that a label lies behind the state that predicts it

    def __init__(self, body: Any, *, start: int, pad: int) -> None:
        super().__init__()
        self.body = body
        self._start, self._pad = start, pad

    @abstractmethod
    def states(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """Give the states (B, T, H) of the last layer, of which every label is predicted by one."""

    @abstractmethod
    def own_logits(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """Give the logits (B, T, K) that the body itself makes."""

    def forward(
        self,
        inputs: Inputs,
        labels: Tensor,  # (B, T), UNCOUNTED where there is no token to predict
    ) -> LinearOutput:
        """Give the layer that makes the logits of each token to predict, given those before it: N rows.

        The rows are those of `labels[labels != UNCOUNTED]`.
        """
        layer = self.body.get_output_embeddings()
        bias = getattr(self.body, "final_logits_bias", None)
        states = self.predicting(self.states(inputs, labels), labels)
        return LinearOutput(states, layer.weight, layer.bias if bias is None else bias.flatten())

    def predicting(self, values: Tensor, labels: Tensor) -> Tensor:
        """Take of values (B, T, …) those of the places that predict a token, (N, …)."""
        return values[:, : labels.shape[1] - self.ahead][labels[:, self.ahead :] != UNCOUNTED]

    @torch.no_grad()
    def predict(self, sentences: Sentences) -> LinearOutput:
        """Give the layer that makes the logits of all target tokens of some sentences, in their order."""
        device = next(self.parameters()).device
        outputs: list[LinearOutput] = []
        for numbers in torch.split(torch.arange(len(sentences)), _TOGETHER):
            batch = sentences.batch(numbers.tolist())
            inputs = {name: value.to(device) for name, value in batch.inputs.items()}
            outputs.append(self(inputs, batch.labels.to(device)))
        return outputs[0]._replace(features=torch.cat([output.features for output in outputs]))


class EncoderDecoder(TokenNetwork):
    """An encoder, and a decoder that predicts tokens."""

    words = "an encoder and decoder"
    first_token = "decoder_start_token_id"
    ahead = 0

    def states(self, inputs: Inputs, labels: Tensor) -> Tensor:
        states: Tensor = self.outputs(inputs, labels).last_hidden_state
        return states

    def outputs(self, inputs: Inputs, labels: Tensor, **options: Any) -> Any:
        """Give what the body below its last layer puts out."""
        return self.body.base_model(**inputs, decoder_input_ids=self.seen(labels), use_cache=False, **options)

    def seen(self, labels: Tensor) -> Tensor:
        """Give the token (B, T) before each label."""
        seen = labels.masked_fill(labels == UNCOUNTED, self._pad).roll(1, dims=1)
        seen[:, 0] = self._start
        return seen

    def own_logits(self, inputs: Inputs, labels: Tensor) -> Tensor:
        logits: Tensor = self.body(**inputs, labels=labels).logits
        return logits


N = TypeVar("N", bound=TokenNetwork)


def check_model(model: str, known: Collection[str]) -> None:
    """Check that `model` is among the known names, or has the form of one of the user's own.

    Raises:
        InputError: it is neither.
    """
    if model in known or model.removeprefix(_FOLDER) != model or _FACTORY.fullmatch(model):
        return
    raise InputError(
        f"model must be one of {', '.join(known)}, hf:FOLDER, or module:factory of your own, got {model!r}"
    )


def own_vocabulary(model: str) -> Vocabulary | None:
    """Read the vocabulary that a network of `hf:FOLDER` brings; None of any other.

    Raises:
        FileNotFoundError: a file is missing.
        InputError: a file is damaged, or does not name a token that is needed.
    """
    if not is_saved(model):
        return None
    config = saved_config(model)
    if not config.get("is_encoder_decoder"):
        kind = config.get("model_type")
        raise InputError(f"{model} must be an encoder with a decoder, got the model_type {kind!r}")
    pad, end, start = (
        whole_number(model, config, name)
        for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id")
    )
    return Vocabulary(saved_tokenizer(model), pad=pad, end=end, start=start)


def is_saved(model: str) -> bool:
    """Tell whether a network is one that transformers saved, `hf:FOLDER`."""
    return model.startswith(_FOLDER)


def saved_config(model: str) -> dict[str, Any]:
    """Read the config of a network of `hf:FOLDER`.

    Raises:
        FileNotFoundError: it is missing.
        InputError: it is damaged.
    """
    path = _folder(model) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{model} must name a folder with a config.json: download it first")
    with reading(path, (ValueError,)):
        config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise InputError(f"{path} must hold an object, got {type(config).__name__}")
    return config


def whole_number(model: str, config: dict[str, Any], name: str) -> int:
    """Take a whole number from the config of a network of `hf:FOLDER`.

    Raises:
        InputError: it has none of this name.
    """
    value = config.get(name)
    if not isinstance(value, int):
        raise InputError(f"{_folder(model) / 'config.json'} must hold a whole number {name}, got none")
    return value


def saved_tokenizer(model: str) -> str:
    """Read the tokenizer that a network of `hf:FOLDER` brings, as the library tokenizers writes it.

    Raises:
        FileNotFoundError: it is missing.
        InputError: it is damaged.
    """
    path = _folder(model) / "tokenizer.json"
    with needs_extra("translation", "speech"):
        from tokenizers import Tokenizer

    content = path.read_text(encoding="utf-8")
    with reading(path, (Exception,)):  # tokenizers raises no other for what it cannot read
        Tokenizer.from_str(content)
    return content


def _folder(model: str) -> Path:
    return local_path(model.removeprefix(_FOLDER))


def model_sha256(model: str) -> str:
    """Hash the files that a network of the user's own comes from; "" for a network of ours.

    Raises:
        InputError: there is no such module or folder.
    """
    if ":" not in model:
        return ""
    if not is_saved(model):
        return module_sha256(model)
    folder = _folder(model)
    files = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".safetensors"))
    if not files:
        raise InputError(
            f"{folder} must be a folder of .json and .safetensors files, as transformers saves it"
        )
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def own_modules(model: str) -> list[str]:
    """Name the top-level module or package of a network of the user's own; none of any other."""
    return [top_module(model)] if ":" in model and not is_saved(model) else []


def build_network(
    model: str,
    summary: TokenSummary,
    seed: int,
    *,
    kind: type[N],
    ours: Callable[[dict[str, Any]], Any],
    saved: str,
    sizes: dict[str, Any],
    example: Inputs,
) -> N:
    """Make a network as its training begins; new weights depend on the seed alone.

    Args:
        model: a name that `ours` makes; `hf:FOLDER` of a model that transformers saved, with its weights; or
            `module:factory`, where `factory(vocab_size=…, pad_token_id=…, eos_token_id=…, …)` gives a model
            of transformers.
        summary: of the data.
        seed: of the initial weights; torch's global random state is left as it was.
        kind: of the network.
        ours: makes a network of ours, of all sizes.
        saved: the class of transformers that loads saved ones.
        sizes: beside those of the vocabulary.
        example: inputs of two sentences.

    Returns:
        The network, on the CPU and in training mode.

    Raises:
        InputError: the model cannot be made, or its logits are not what one linear layer puts out.
    """
    with needs_extra("translation", "speech"):
        import transformers
    sizes = {
        "vocab_size": summary.num_classes,
        "pad_token_id": summary.pad,
        "eos_token_id": summary.end,
        kind.first_token: summary.start,
        **sizes,
    }
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if ":" not in model:
            body: object = ours(sizes)
        elif is_saved(model):
            body = _saved(_folder(model), getattr(transformers, saved))
        else:
            factory = callable_of(model)
            try:
                body = factory(**sizes)
            except Exception as error:  # whatever the user's own code raises
                raise InputError(f"{model} raised {told(error)}") from error
        decodes = issubclass(kind, EncoderDecoder)
        if not isinstance(body, transformers.PreTrainedModel) or body.config.is_encoder_decoder != decodes:
            raise InputError(f"{model} must be {kind.words} of transformers, got {type(body).__name__}")
        network = kind(body, start=summary.start, pad=summary.pad).float()
    _check_logits(network, model, summary, example)
    return network.train()


def _saved(folder: Path, kind: Any) -> Any:
    """Load a model from its folder: nothing is fetched, no code or pickle of it runs, no progress shown."""
    from safetensors import SafetensorError  # which transformers brings
    from transformers import utils

    def refusal(error: BaseException) -> str:
        lines = str(error).splitlines() or [type(error).__name__]
        return f"{folder} cannot be read as a model of transformers: {lines[0]}"

    damage = (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError)
    logging: Any = utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with reading(folder, damage, refusal):
            return kind.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
            )
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_logits(network: TokenNetwork, model: str, summary: TokenSummary, example: Inputs) -> None:
    """Refuse a network whose logits are not those of its last layer, of these sizes.

    Small logits would hide a bound on them, so the layer is given states that are a hundred times as long.
    """
    labels = torch.tensor([[UNCOUNTED] * network.ahead + [summary.end]] * 2)
    try:
        with torch.no_grad():
            features, weight, bias = network.eval()(example, labels)
            layer = network.body.get_output_embeddings()
            with layer.register_forward_pre_hook(lambda _, states: (_LONGER * states[0],)):
                logits = network.predicting(network.own_logits(example, labels), labels)
    except Exception as error:  # whatever a model of others raises
        raise InputError(f"{model} cannot take this data: it raised {told(error)}") from error
    if logits.shape != (2, summary.num_classes):
        raise InputError(
            f"{model} must have one logit for each of the {summary.num_classes:,} tokens of the vocabulary, "
            f"got {logits.shape[-1]:,}"
        )
    if not torch.allclose(F.linear(_LONGER * features, weight, bias), logits, rtol=1e-4, atol=_LONGER * 1e-5):
        raise InputError(f"the logits of {model} must be what a linear layer makes of its last states")
