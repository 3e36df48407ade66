"""Train a language model of transformers with label smoothing, in the library's own Trainer.

    pip install '.[transformers]'
    python examples/hf_trainer.py                     # under a minute on two cores

The model is a small Llama of random weights, one from `from_pretrained` goes in its place; the text is the
documentation of Python's language. Prints what the Trainer logs: the smoothed loss, and accuracy, NLL and ECE
of the training tokens, from the loss's own pass; then the NLL of text that was held out, which smoothing does
not touch, and where the model was saved.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from pydoc_data.topics import topics

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from labelsmooth.integrations.hf import log_training, smooth


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="of the optimizer (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default="runs/hf_trainer", help="folder for the model (default: %(default)s)"
    )
    options = parser.parse_args()
    if options.steps < 1:
        parser.error(f"--steps must be at least 1, got {options.steps}")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out must be a folder: {error}")

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(topics.values(), vocab_size=2000)
    ids = torch.tensor(tokenizer.encode("\n".join(topics.values())).ids)
    rows = [{"input_ids": row, "labels": row} for row in ids.split(64)[:-1]]
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=2000, bos_token_id=None, eos_token_id=None, **sizes)
    model = smooth(LlamaForCausalLM(config), 0.1)  # before the trainer has it
    steps = {"max_steps": options.steps, "per_device_train_batch_size": 8, "save_strategy": "no"}
    logs = {"logging_steps": max(options.steps // 5, 1), "report_to": "none", "disable_tqdm": True}  # prints
    arguments = TrainingArguments(options.out, learning_rate=3e-3, **steps, **logs)
    trainer = log_training(Trainer(model, arguments, train_dataset=rows[32:], eval_dataset=rows[:32]))
    trainer.train()
    print(f"NLL of held out text: {trainer.evaluate()['eval_loss']:.4f} nats a token")
    trainer.save_model()
    tokenizer.save(f"{options.out}/tokenizer.json")
    print(f"the model is in {options.out}")


if __name__ == "__main__":
    main()
