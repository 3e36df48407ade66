"""Train an image classifier of timm with its mixup and CutMix, and label smoothing in their targets.

    pip install '.[timm,study]' && python examples/timm_images.py         # half a minute on two cores

The images are the digits of scikit-learn, enlarged; the measures are those of 360 that were held out.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

import torch
from safetensors.torch import save_model
from sklearn.datasets import load_digits
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, TensorDataset, random_split

import labelsmooth as ls

try:
    from labelsmooth.integrations.timm import Mixup
except ModuleNotFoundError as error:
    raise SystemExit(error) from None  # which says what to install
import timm.optim


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="test_resnet", help="its name in timm (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=10, help="over the images (default: %(default)s)")
    parser.add_argument("--out", type=Path, default="digits.safetensors", help="file (default: %(default)s)")
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error(f"--epochs must be at least 1, got {options.epochs}")
    if options.out.is_dir() or not options.out.parent.is_dir():
        parser.error(f"--out must be a file in a folder that is there, got {options.out}")
    torch.manual_seed(0)
    pixels, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    images = interpolate(pixels.float().reshape(-1, 1, 8, 8) / 8 - 1, 32, mode="bilinear")
    train, test = random_split(TensorDataset(images, labels), [1437, 360])
    model = timm.create_model(options.model, num_classes=10, in_chans=1)
    optimizer = timm.optim.create_optimizer_v2(model, "adamw", lr=2e-3, weight_decay=0.05)
    mix = Mixup(mixup_alpha=0.2, cutmix_alpha=1.0, prob=0.5, label_smoothing=0.1, num_classes=10)
    for epoch in range(1, options.epochs + 1):
        for x, target in DataLoader(train, 64, shuffle=True, drop_last=True):
            x, mixture = mix(x, target)
            loss = ls.cross_entropy(model(x), mixture)  # what is smoothed already is not smoothed again
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}  loss of its last batch {loss.item():.4f}")
    calibration = ls.measure.Calibration()
    calibration.update(model.eval()(images[test.indices]).detach(), labels[test.indices])
    found = calibration.compute()
    save_model(model, options.out)
    print(f"accuracy {found.accuracy:.3f}  NLL {found.nll:.4f}  ECE {found.ece:.4f}  weights: {options.out}")


if __name__ == "__main__":
    main()
