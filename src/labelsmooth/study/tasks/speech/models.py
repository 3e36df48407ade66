"""The networks of speech: encoders of features and decoders of the library transformers."""

from __future__ import annotations

from typing import Any

import numpy as np

from labelsmooth.study.tasks.sequences.network import EncoderDecoder, build_network, check_model
from labelsmooth.study.tasks.speech.alignment import Recogniser
from labelsmooth.study.tasks.speech.audio import MELS
from labelsmooth.study.tasks.speech.augment import PACE
from labelsmooth.study.tasks.speech.data import SHRUNK, SpeechSummary, speech_inputs

# Speech2Text of transformers: width, layers of encoder and decoder, heads, inner width, channels between the
# two convolutions.
MODELS = {
    "small": (144, 4, 2, 4, 576, 256),
    "base": (256, 12, 6, 4, 2048, 1024),  # Wang et al. 2020, "fairseq S2T", its s2t_transformer_s
}


def build_recogniser(model: str, summary: SpeechSummary, seed: int, dropout: float) -> EncoderDecoder:
    """Make a network as its training begins, as `build_network` does.

    Args:
        model: a name in `MODELS`, or one of the user's own, whose factory gets `input_feat_per_channel`,
            `max_source_positions` and `max_target_positions` too.
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
        kind=Recogniser if model in MODELS else EncoderDecoder,
        ours=lambda sizes: _speech2text(model, sizes, dropout),
        saved="AutoModelForSpeechSeq2Seq",
        sizes={
            "input_feat_per_channel": MELS,
            "max_source_positions": round((1 + PACE) * summary.max_frames) // SHRUNK + 8,
            "max_target_positions": summary.max_tokens + 1,
        },
        example=speech_inputs([np.zeros((40, MELS), dtype=np.float32)] * 2),
    )


def _speech2text(model: str, sizes: dict[str, Any], dropout: float) -> Any:
    import transformers

    width, encoder_layers, decoder_layers, heads, inner, channels = MODELS[model]
    config = transformers.Speech2TextConfig(
        **sizes,
        bos_token_id=sizes["eos_token_id"],
        d_model=width,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=inner,
        decoder_ffn_dim=inner,
        conv_channels=channels,
        dropout=dropout,
    )
    body = transformers.Speech2TextForConditionalGeneration(config)
    body.set_attn_implementation("eager")  # which alone gives the weights of attention
    return body
