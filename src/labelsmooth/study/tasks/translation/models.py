"""The networks of translation: encoders and decoders of the library transformers."""

from __future__ import annotations

from typing import Any

from labelsmooth.study.tasks.sequences.network import EncoderDecoder, build_network, check_model
from labelsmooth.study.tasks.sequences.sentences import token_inputs
from labelsmooth.study.tasks.translation.data import TranslationSummary

# Transformers of transformers' Marian: width, layers of encoder and decoder each, heads, inner width.
MODELS = {
    "small": (160, 2, 4, 640),
    "base": (512, 6, 8, 2048),  # Vaswani et al. 2017, "Attention Is All You Need", table 3
}


def build_translator(model: str, summary: TranslationSummary, seed: int, dropout: float) -> EncoderDecoder:
    """Make a network as its training begins, as `build_network` does.

    Args:
        model: a name in `MODELS`, or one of the user's own, whose factory gets `decoder_start_token_id` and
            `max_position_embeddings` too.
        summary: of the data.
        seed: of the initial weights.
        dropout: of the networks in `MODELS`.

    Raises:
        InputError: the model cannot be made, or its logits are not what one linear layer puts out.
    """
    check_model(model, MODELS)
    return build_network(
        model,
        summary,
        seed,
        kind=EncoderDecoder,
        ours=lambda sizes: _marian(model, sizes, dropout),
        saved="AutoModelForSeq2SeqLM",
        sizes={"max_position_embeddings": summary.max_tokens + 1},
        example=token_inputs([[summary.end], [summary.end]], summary.pad),
    )


def _marian(model: str, sizes: dict[str, Any], dropout: float) -> Any:
    import transformers

    width, layers, heads, inner = MODELS[model]
    config = transformers.MarianConfig(
        **sizes,
        forced_eos_token_id=None,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=inner,
        decoder_ffn_dim=inner,
        activation_function="relu",
        dropout=dropout,
        scale_embedding=True,
    )
    return transformers.MarianMTModel(config)
