"""Tiny networks without chance in their layers, for studies in other processes, which import them by their names."""

from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MarianConfig,
    MarianMTModel,
    Speech2TextConfig,
    Speech2TextForConditionalGeneration,
)

_SIZES = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "dropout": 0.0,
}  # fmt: skip


def translator(**sizes):
    return MarianMTModel(MarianConfig(**sizes, **_SIZES, forced_eos_token_id=None))


def recogniser(**sizes):
    return Speech2TextForConditionalGeneration(Speech2TextConfig(**sizes, **_SIZES, conv_channels=32))


def language_model(**sizes):
    nothing = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return GPT2LMHeadModel(GPT2Config(**sizes, **nothing, n_embd=16, n_layer=1, n_head=2))
