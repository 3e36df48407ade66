"""Train an image classifier of timm with its mixup and CutMix, and label smoothing in their targets.

    python examples/timm_images.py                    # half a minute on two cores

The images are the 1,797 handwritten digits that scikit-learn brings, enlarged. Prints the loss of each epoch,
then accuracy, NLL and ECE of the 360 images that were held out, and where the weights were saved.
"""

import argparse

import timm
import torch
from safetensors.torch import save_model
from sklearn.datasets import load_digits
from timm.optim import create_optimizer_v2
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, TensorDataset, random_split

import labelsmooth as ls
from labelsmooth.integrations.timm import Mixup


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="test_resnet", help="its name in timm, by default a tiny one")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", default="digits.safetensors", help="file for the weights")
    options = parser.parse_args()

    torch.manual_seed(0)
    pixels, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    images = interpolate(pixels.float().reshape(-1, 1, 8, 8) / 8 - 1, 32, mode="bilinear")
    train, test = random_split(TensorDataset(images, labels), [1437, 360])
    model = timm.create_model(options.model, num_classes=10, in_chans=1)
    optimizer = create_optimizer_v2(model, "adamw", lr=2e-3, weight_decay=0.05)
    mix = Mixup(mixup_alpha=0.2, cutmix_alpha=1.0, prob=0.5, label_smoothing=0.1, num_classes=10)
    for epoch in range(1, options.epochs + 1):
        losses = []
        for x, target in DataLoader(train, 64, shuffle=True, drop_last=True):
            x, mixture = mix(x, target)
            loss = ls.cross_entropy(model(x), mixture)  # what is smoothed already is not smoothed again
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch}  loss {sum(losses) / len(losses):.4f}")

    calibration = ls.measure.Calibration()
    with torch.inference_mode():
        for x, target in DataLoader(test, 64):
            calibration.update(model.eval()(x), target)
    found = calibration.compute()
    print(f"accuracy {found.accuracy:.3f}  NLL {found.nll:.4f}  ECE {found.ece:.4f}")
    save_model(model, options.out)
    print(f"the weights are in {options.out}")


if __name__ == "__main__":
    main()
