"""Fine-tune a language model with label smoothing in TRL, by SmoothedSFTTrainer in SFTTrainer's place.

    pip install '.[trl]'
    python examples/trl_sft.py                        # under a minute on two cores

The model is a small Qwen3 of random weights, one from `from_pretrained` goes in its place; it learns to give
the text on a topic of Python's documentation for its name. Prints TRL's own logs, the NLL of answers that
were held out, which smoothing does not touch, and where the model was saved.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from pydoc_data.topics import topics

import torch
from datasets import Dataset
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from trl import SFTConfig

from labelsmooth.integrations.trl import SmoothedSFTTrainer


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="of the optimizer (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default="runs/trl_sft", help="folder for the model (default: %(default)s)"
    )
    options = parser.parse_args()
    if options.steps < 1:
        parser.error(f"--steps must be at least 1, got {options.steps}")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out must be a folder: {error}")

    words = ByteLevelBPETokenizer()
    words.train_from_iterator(topics.values(), 2000, special_tokens=["<pad>", "<end>"])
    special = {"pad_token": "<pad>", "eos_token": "<end>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words._tokenizer, **special)
    rows = [{"prompt": f"{name}:", "completion": text} for name, text in topics.items()]
    data = {"train_dataset": Dataset.from_list(rows[8:]), "eval_dataset": Dataset.from_list(rows[:8])}
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen3Config(vocab_size=len(tokenizer), num_key_value_heads=2, head_dim=16, **sizes)
    steps = {"max_steps": options.steps, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    logs = {"logging_steps": max(options.steps // 5, 1), "report_to": "none", "disable_tqdm": True}  # prints
    how = {"max_length": 128, "learning_rate": 3e-3, "save_strategy": "no"}
    arguments = SFTConfig(options.out, use_cpu=not torch.cuda.is_available(), **how, **steps, **logs)
    data |= {"model": Qwen3ForCausalLM(config), "args": arguments, "processing_class": tokenizer}
    trainer = SmoothedSFTTrainer(**data, label_smoothing=0.1)
    trainer.train()
    print(f"NLL of held out answers: {trainer.evaluate()['eval_loss']:.4f} nats a token")
    trainer.save_model()
    print(f"the model is in {options.out}")


if __name__ == "__main__":
    main()
