"""A Lightning module that logs accuracy, NLL and ECE of its training rows, from the loss's own pass.

    pip install '.[lightning,study]' && python examples/lightning_module.py             # some seconds

The loss returns statistics of its rows, which `CalibrationMetric` counts; the images are scikit-learn's.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchmetrics import MetricCollection

import labelsmooth as ls
from labelsmooth.integrations.torchmetrics import CalibrationMetric


class Classifier(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        metrics = MetricCollection({name: CalibrationMetric(name) for name in ("accuracy", "nll", "ece")})
        self.training_metrics = metrics.clone(prefix="train_")
        self.validation_metrics = metrics.clone(prefix="validation_")

    def training_step(self, batch: list[Tensor]) -> Tensor:
        logits = self.network(batch[0])
        loss, stats = ls.cross_entropy(logits, batch[1], label_smoothing=0.1, return_stats=True)
        self.training_metrics.update(stats)
        self.log_dict(self.training_metrics, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor]) -> None:
        self.validation_metrics.update(self.network(batch[0]), batch[1])
        self.log_dict(self.validation_metrics)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10, help="over the rows (default: %(default)s)")
    epochs = parser.parse_args().epochs
    if epochs < 1:
        parser.error(f"--epochs must be at least 1, got {epochs}")
    pl.seed_everything(0, verbose=False)
    pixels, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    train, validation = random_split(TensorDataset(pixels.float() / 16, labels), [1437, 360])
    trainer = pl.Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False)
    trainer.fit(Classifier(), DataLoader(train, 64, shuffle=True), DataLoader(validation, 360))
    print(*(f"{name} {float(value):.4f}" for name, value in trainer.callback_metrics.items()), sep="\n")


if __name__ == "__main__":
    main()
