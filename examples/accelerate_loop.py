"""Train in a loop of one's own with accelerate, and print NLL, accuracy and ECE of the training tokens.

    python examples/accelerate_loop.py                # or torchrun --nproc-per-node 2 …

A step's loss is the mean over the tokens of several micro-batches of unequal lines, in all processes.
"""

import argparse
from contextlib import nullcontext
from itertools import islice
from pydoc_data.topics import topics

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

import labelsmooth as ls


class LanguageModel(nn.Module):
    def __init__(self, vocabulary: int = 256, width: int = 128) -> None:  # the words are bytes
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layer = nn.Conv1d(width, width, 8, padding=7)  # sees the last 8 words
        self.head = nn.Linear(width, vocabulary)

    def forward(self, words: Tensor, tokens: Tensor) -> tuple[Tensor, ls.RowStats]:  # (B, T), padded by −100
        states = self.layer(self.embedding(words[:, :-1].clamp(min=0)).mT).mT[:, : words.shape[1] - 1]
        how = {"label_smoothing": 0.1, "denominator": tokens, "return_stats": True}
        return ls.linear_cross_entropy(states.relu(), self.head, words[:, 1:], **how)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=50)
    lines = [torch.tensor(list(line.encode())) for line in "\n".join(topics.values()).split("\n") if line]
    loader = DataLoader(lines, 16, shuffle=True, collate_fn=lambda rows: pad_sequence(rows, True, -100))
    accelerator, model, measured = Accelerator(), LanguageModel(), ls.measure.Calibration()
    model, optimizer, loader = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), 3e-3), loader)
    batches = iter(loader)
    for _ in range(parser.parse_args().steps):
        micro_batches = list(islice(batches, 4))
        tokens = accelerator.reduce(sum((words[:, 1:] >= 0).sum() for words in micro_batches))
        for words in micro_batches:
            with nullcontext() if words is micro_batches[-1] else accelerator.no_sync(model):
                loss, stats = model(words, tokens / accelerator.num_processes)
                accelerator.backward(loss)
            measured.update_stats(stats)
        optimizer.step()
        optimizer.zero_grad()
    measured.all_merge()
    found = measured.compute()
    accelerator.print(f"NLL {found.nll:.4f}  accuracy {found.accuracy:.3f}  ECE {found.ece:.4f}")


if __name__ == "__main__":
    main()
