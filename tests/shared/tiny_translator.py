"""A tiny translator without chance in its layers, for studies in other processes, which import it by its name."""

from transformers import MarianConfig, MarianMTModel


def make(**sizes):
    config = MarianConfig(
        **sizes, forced_eos_token_id=None, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        dropout=0.0,
    )  # fmt: skip
    return MarianMTModel(config)
