"""One epoch of the Trainer of transformers with 32,000 words: `python benchmarks/hf_trainer.py`.

A Llama of two layers learns the source of Python's standard library, in a process of its own each way:
smoothed by `hf.smooth`, smoothed by `label_smoothing_factor`, and by transformers' own loss of hard labels.
Prints time, peak memory above that before the training, and the losses. The ways take turns, so that what
else the machine does falls on all.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import transformers

from labelsmooth.bench.memory import fresh_high_water, high_water
from labelsmooth.integrations.hf import smooth

EPS, VOCABULARY, LENGTH, BATCH = 0.1, 32_000, 128, 16
WAYS = {
    "hf.smooth(model, 0.1)": "smooth",
    "label_smoothing_factor=0.1": "factor",
    "hard labels, transformers' own loss": "hard",
}


def read_rows(steps: int) -> list[dict[str, torch.Tensor]]:
    """Give so many batches of the standard library's words, and a quarter as many to evaluate."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    words = re.findall(r"\w+|[^\w\s]", "\n".join(file.read_text("utf-8", "replace") for file in files))
    classes = {word: number for number, (word, _) in enumerate(Counter(words).most_common(VOCABULARY - 1), 1)}
    tokens = torch.tensor([classes.get(word, 0) for word in words])
    rows = tokens[: len(tokens) // LENGTH * LENGTH].view(-1, LENGTH)[: steps * BATCH * 5 // 4]
    return [{"input_ids": row, "labels": row} for row in rows]


def train(way: str, steps: int) -> None:
    """Train one way, and print seconds of training and evaluation, MiB, and the losses of both."""
    rows = read_rows(steps)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=768, num_hidden_layers=2,
        num_attention_heads=4,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder, report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no",
            per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH, num_train_epochs=1,
            learning_rate=1e-3, logging_steps=steps, prediction_loss_only=True,
            label_smoothing_factor=EPS if way == "factor" else 0.0,
        )  # fmt: skip
        trainer = transformers.Trainer(
            smooth(model, EPS) if way == "smooth" else model,
            arguments,
            train_dataset=rows[: steps * BATCH],
            eval_dataset=rows[steps * BATCH :],
        )
        before, began = fresh_high_water(), time.perf_counter()
        trainer.train()
        trained, peak = time.perf_counter() - began, high_water()
        evaluated: dict[str, Any] = trainer.evaluate()
    loss = next(log["loss"] for log in trainer.state.log_history if "loss" in log)
    print(trained, evaluated["eval_runtime"], (peak - before) / 2**20, loss, evaluated["eval_loss"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--repeat", type=int, default=3, help="processes each way; medians are printed")
    parser.add_argument("--way", choices=WAYS.values(), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way is not None:
        return train(arguments.way, arguments.steps)
    runs: dict[str, list[list[float]]] = {way: [] for way in WAYS.values()}
    for _ in range(arguments.repeat):
        for way, done in runs.items():
            command = [sys.executable, __file__, "--way", way, "--steps", str(arguments.steps)]
            environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
            output = subprocess.run(
                command, env=environment, check=True, stdout=subprocess.PIPE, text=True
            ).stdout
            done.append(list(map(float, output.splitlines()[-1].split())))
    print("| way | train | evaluate | peak memory | training loss | evaluation loss |")
    print("|---|---|---|---|---|---|")
    for name, way in WAYS.items():
        trained, evaluated, peak, *losses = map(statistics.median, zip(*runs[way], strict=True))
        loss, eval_loss = losses
        times = f"{trained:.1f} s | {evaluated:.1f} s"
        print(f"| {name} | {times} | {peak:.0f} MiB | {loss:.3f} | {eval_loss:.3f} |")
    ratios = sorted(theirs[0] / mine[0] for mine, theirs in zip(runs["smooth"], runs["factor"], strict=True))
    middle = statistics.median(ratios)
    print(f"label_smoothing_factor trains {middle:.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f}) times as long")
    return None


if __name__ == "__main__":
    main()
