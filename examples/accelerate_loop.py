"""Train in a loop of one's own with accelerate, and print NLL, accuracy and ECE of the training tokens.

Needs `pip install '.[accelerate]'`. A step's loss is the mean over the tokens of all its micro-batches.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import nullcontext
from itertools import chain, islice, repeat
from pydoc_data.topics import topics

import torch
from accelerate import Accelerator
from torch import Tensor, nn
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
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50, help="of the optimizer (default: %(default)s)")
    steps = parser.parse_args().steps
    if steps < 1:
        parser.error(f"--steps must be at least 1, got {steps}")
    lines = [torch.tensor(list(line.encode())) for line in "\n".join(topics.values()).split("\n") if line]
    loader = DataLoader(lines, 16, True, collate_fn=lambda rows: nn.utils.rnn.pad_sequence(rows, True, -100))
    accelerator, model, measured = Accelerator(), LanguageModel(), ls.measure.Calibration()
    model, optimizer, loader = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), 3e-3), loader)
    batches = chain.from_iterable(repeat(loader))
    for _ in range(steps):
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
