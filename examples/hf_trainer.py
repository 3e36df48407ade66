"""Train a language model of transformers with label smoothing, in the library's own Trainer.

    python examples/hf_trainer.py                     # under a minute on two cores

The model is a small Llama of random weights, one from `from_pretrained` goes in its place; the text is the
documentation of Python's language. Prints what the Trainer logs: the smoothed loss, and accuracy, NLL and ECE
of the training tokens, from the loss's own pass; then the NLL of text that was held out, which smoothing does
not touch, and where the model was saved.
"""

import argparse
from pydoc_data.topics import topics

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from labelsmooth.integrations.hf import log_training, smooth

VOCABULARY, LENGTH = 2000, 64


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", default="runs/hf_trainer", help="folder for the model")
    options = parser.parse_args()

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(topics.values(), VOCABULARY)
    ids = torch.tensor(tokenizer.encode("\n".join(topics.values())).ids)
    rows = [{"input_ids": row, "labels": row} for row in ids.split(LENGTH)[:-1]]
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=None, **sizes)
    )

    arguments = TrainingArguments(
        options.out,
        max_steps=options.steps,
        per_device_train_batch_size=8,
        learning_rate=3e-3,
        logging_steps=max(options.steps // 5, 1),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,  # so that logs are printed
    )
    smooth(model, 0.1)  # before the trainer has it
    trainer = log_training(Trainer(model, arguments, train_dataset=rows[32:], eval_dataset=rows[:32]))
    trainer.train()
    print(f"NLL of held out text: {trainer.evaluate()['eval_loss']:.4f} nats a token")
    trainer.save_model()
    tokenizer.save(f"{options.out}/tokenizer.json")
    print(f"the model is in {options.out}")


if __name__ == "__main__":
    main()
