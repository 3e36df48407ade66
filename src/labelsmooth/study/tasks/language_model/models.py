"""Causal language models of the library transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.language_model.data import LanguageSummary
from labelsmooth.study.tasks.sequences.network import (
    TokenNetwork,
    build_network,
    check_model,
    is_saved,
    saved_config,
    saved_tokenizer,
    whole_number,
)
from labelsmooth.study.tasks.sequences.sentences import Inputs
from labelsmooth.study.tasks.sequences.vocabulary import Vocabulary

# Transformers of transformers' GPT-2, with the embeddings for a last layer: width, layers, heads.
MODELS = {
    "small": (160, 4, 4),
    "base": (768, 12, 12),  # Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"
}


class CausalModel(TokenNetwork):
    """A network that predicts each token from those before it."""

    words = "a causal language model"
    first_token = "bos_token_id"
    ahead = 1

    def states(self, inputs: Inputs, labels: Tensor) -> Tensor:  # noqa: ARG002 (the inputs hold them)
        states: Tensor = self.body.base_model(**inputs, use_cache=False).last_hidden_state
        return states

    def own_logits(self, inputs: Inputs, labels: Tensor) -> Tensor:  # noqa: ARG002
        logits: Tensor = self.body(**inputs).logits
        return logits


def own_vocabulary(model: str) -> tuple[Vocabulary | None, int | None]:
    """Read the vocabulary that a network of `hf:FOLDER` brings, and the number of its logits.

    Where its config names no token to begin with, or none to fill up with, the end is taken.

    Returns:
        Nothing of any other network.

    Raises:
        FileNotFoundError: a file is missing.
        InputError: a file is damaged, or does not name what is needed.
    """
    if not is_saved(model):
        return None, None
    config = saved_config(model)
    ends = config.get("eos_token_id")
    if isinstance(ends, list) and ends:  # of which a dialogue has several
        config = {**config, "eos_token_id": ends[0]}
    end, size = (whole_number(model, config, name) for name in ("eos_token_id", "vocab_size"))
    start, pad = (_token(config, name, size, end) for name in ("bos_token_id", "pad_token_id"))
    vocabulary = Vocabulary(saved_tokenizer(model), pad=pad, end=end, start=start, reads_marks=True)
    if not 0 <= end < size or len(vocabulary) > size:
        raise InputError(
            f"the vocab_size of {model} must be above its end {end} and at least the {len(vocabulary):,} "
            f"tokens of its tokenizer, got {size:,}"
        )
    return vocabulary, size


def _token(config: dict[str, Any], name: str, size: int, otherwise: int) -> int:
    token = config.get(name)
    return token if isinstance(token, int) and 0 <= token < size else otherwise


def build_language_model(model: str, summary: LanguageSummary, seed: int, dropout: float) -> CausalModel:
    """Make a network as its training begins, as `build_network` does.

    Args:
        model: a name in `MODELS`, or one of the user's own, whose factory gets `bos_token_id` and
            `max_position_embeddings` too.
        summary: of the data.
        seed: of the initial weights.
        dropout: of the networks in `MODELS`.

    Raises:
        InputError: the model cannot be made, its logits are not what one linear layer puts out, they know
            what they predict, or it has too few positions.
    """
    check_model(model, MODELS)
    ids = torch.tensor(
        [[summary.start, summary.end], [summary.start, (summary.end + 1) % summary.num_classes]]
    )
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    network = build_network(
        model,
        summary,
        seed,
        kind=CausalModel,
        ours=lambda sizes: _gpt2(model, sizes, dropout),
        saved="AutoModelForCausalLM",
        sizes={"max_position_embeddings": summary.max_tokens},
        example=example,
    )
    with torch.no_grad():
        one, other = network.eval().states(example, ids)[:, 0]  # behind which other tokens stand
    if not torch.allclose(one, other, rtol=1e-4, atol=1e-5):
        raise InputError(f"{model} must predict each token from those before it, it sees those behind it too")
    positions = getattr(network.body.config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions < summary.max_tokens:
        raise InputError(
            f"max_tokens must be at most the {positions:,} positions of {model}, got {summary.max_tokens:,}"
        )
    return network.train()


def _gpt2(model: str, sizes: dict[str, Any], dropout: float) -> Any:
    import transformers

    width, layers, heads = MODELS[model]
    config = transformers.GPT2Config(
        **sizes,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
    )
    return transformers.GPT2LMHeadModel(config)
