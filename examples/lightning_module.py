"""A Lightning module that logs accuracy, NLL and ECE of its training rows, from the loss's own pass.

    python examples/lightning_module.py               # some seconds

The loss returns statistics of its rows, which `CalibrationMetric` counts, over an epoch and all processes.
The images are the digits that scikit-learn brings. Prints what Lightning logged.
"""

import argparse

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
        self.loss = ls.CrossEntropyLoss(label_smoothing=0.1)
        metrics = MetricCollection({name: CalibrationMetric(name) for name in ("accuracy", "nll", "ece")})
        self.training_metrics = metrics.clone(prefix="train_")
        self.validation_metrics = metrics.clone(prefix="validation_")

    def training_step(self, batch: list[Tensor]) -> Tensor:
        pixels, target = batch
        loss, stats = self.loss(self.network(pixels), target, return_stats=True)
        self.training_metrics.update(stats)
        self.log_dict(self.training_metrics, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor]) -> None:
        self.validation_metrics.update(self.network(batch[0]), batch[1])
        self.log_dict(self.validation_metrics)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    pl.seed_everything(0, verbose=False)
    pixels, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    train, validation = random_split(TensorDataset(pixels.float() / 16, labels), [1437, 360])
    trainer = pl.Trainer(max_epochs=parser.parse_args().epochs, logger=False, enable_checkpointing=False)
    trainer.fit(Classifier(), DataLoader(train, 64, shuffle=True), DataLoader(validation, 360))
    for name, value in trainer.callback_metrics.items():
        print(f"{name} {float(value):.4f}")


if __name__ == "__main__":
    main()
