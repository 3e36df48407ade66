"""Tries `hf.smooth` on all models of transformers that can be made small: `python benchmarks/hf_families.py`.

A model of random weights gives its own loss of some labels; smoothed with ε = 0, by the fused loss within its
head, it must give the same. Prints a line a model, and counts at the end; exits 1 where one is wrong. Parts
of names as arguments take only such models: `python benchmarks/hf_families.py TokenClassification`.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch

os.environ["HF_HUB_OFFLINE"] = "1"
import transformers
from transformers.models.auto import modeling_auto as auto

from labelsmooth.integrations.hf import smooth

VOCABULARY, PARAMETERS = 61, 3_000_000
_NAMES = {
    32: "hidden_size n_embd d_model word_embed_proj_dim embedding_size emb_dim dim",
    2: "num_hidden_layers n_layer num_layers encoder_layers decoder_layers max_window_layers "
    "num_key_value_heads num_experts_per_tok",
    4: "num_attention_heads n_head num_heads encoder_attention_heads decoder_attention_heads num_experts "
    "num_local_experts n_routed_experts",
    48: "intermediate_size ffn_dim d_ff encoder_ffn_dim decoder_ffn_dim moe_intermediate_size",
    8: "head_dim d_kv q_lora_rank kv_lora_rank qk_rope_head_dim qk_nope_head_dim v_head_dim state_size",
    16: "shared_expert_intermediate_size sliding_window",
    64: "max_position_embeddings n_positions",
    1: "n_shared_experts n_group topk_group first_k_dense_replace",
}
SIZES: dict[str, Any] = {name: size for size, names in _NAMES.items() for name in names.split()} | {
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "output_router_logits": True,
    "attn_implementation": "eager",
    "experts_implementation": "eager",
}
LEAST = ("vocab_size", "hidden_size", "num_hidden_layers", "pad_token_id")


def families() -> Iterator[tuple[str, type[Any]]]:
    for mapping in (
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    ):
        for family, names in mapping.items():
            name = names if isinstance(names, str) else names[0]
            if any(part in name for part in sys.argv[1:] or [""]):
                yield family, getattr(transformers, name)


def small(family: str, kind: type[Any]) -> Any:
    """Make a small model of a family without dropout; None where its config takes no small sizes."""
    config_of: Any = transformers.CONFIG_MAPPING[family]
    try:
        config = config_of(**SIZES)
        parameters = count(kind, config)
    except Exception:  # noqa: BLE001 (sizes that do not fit each other; each family has checks of its own)
        config = config_of(**{name: SIZES[name] for name in LEAST})
        parameters = count(kind, config)
    return kind(config).float().eval() if parameters <= PARAMETERS else None  # without dropout in any layer


def count(kind: type[Any], config: Any) -> int:
    """Count the parameters of a model without making them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in kind(config).parameters())


def try_family(family: str, kind: type[Any]) -> str:
    torch.manual_seed(0)
    try:
        model = small(family, kind)
        if model is None:
            return "not small"
        ids = torch.randint(3, VOCABULARY, (2, 9))
        labels = torch.randint(3, VOCABULARY, (2, 9))
        if kind.__name__.endswith("Classification"):
            labels = labels % 2 if "Token" in kind.__name__ else labels[:, 0] % 2
        own = model(input_ids=ids, labels=labels).loss
    except Exception as error:  # noqa: BLE001 (whatever a family makes of sizes that are not its own)
        return f"not made ({type(error).__name__})"
    try:
        smooth(model, 0.0)
    except ValueError as error:
        return f"refused ({error})"
    model.training = True  # of the model alone: its layers stay without dropout
    difference = float((model(input_ids=ids, labels=labels).loss - own).detach().abs() / own.detach().abs())
    made = ", its logits made" if model._label_smoothing.unfused else ""
    return f"same{made}" if difference < 1e-5 else f"WRONG by {difference:.1e}"


def main() -> None:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    counts: Counter[str] = Counter()
    for family, kind in families():
        found = try_family(family, kind)
        print(f"{kind.__name__}: {found}", flush=True)
        counts[found.partition(" (")[0].partition(" by")[0]] += 1
    print(", ".join(f"{count} {what}" for what, count in counts.most_common()))
    sys.exit(1 if counts["WRONG"] else 0)


if __name__ == "__main__":
    main()
