"""What `measure.recovered_smoothing` says of networks that a study has trained, and of other classifiers.

    labelsmooth study --data digits --eps 0 0.05 0.1 0.2 --seeds 2 --epochs 60 --out runs/digits-mlp
    python -W ignore benchmarks/recovery.py runs/digits-mlp [MORE STUDIES]

Every network is asked about its validation and its test rows, and the classifiers, which learn 1,000 of
scikit-learn's images of ten digits, or of these those of the first four, about the others.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from labelsmooth.measure import RecoveredSmoothing, recovered_smoothing
from labelsmooth.study.store import load_study

CLASSIFIERS = {
    "logistic regression, C = 0.01": LogisticRegression(C=0.01, max_iter=1000),
    "logistic regression": LogisticRegression(max_iter=1000),
    "logistic regression, C = 100": LogisticRegression(C=100, max_iter=5000),
    "MLP, 5 passes": MLPClassifier(max_iter=5, random_state=0),
    "MLP": MLPClassifier(max_iter=1000, random_state=0),
    "MLP, weight decay 1": MLPClassifier(alpha=1, max_iter=1000, random_state=0),
    "random forest": RandomForestClassifier(random_state=0),
    "boosted trees, 10 rounds": HistGradientBoostingClassifier(max_iter=10, random_state=0),
    "boosted trees": HistGradientBoostingClassifier(random_state=0),
    "support vectors, Platt": SVC(probability=True, random_state=0),
}


def main() -> None:
    print("| trained | rows | verdict | ε | interval | gap spread | wrong spread |")
    print("|---|---|---|---|---|---|---|")
    for study in sys.argv[1:]:
        for trial in load_study(study).trials:
            name = f"{Path(study).name}, {trial.config.objective}, seed {trial.config.seed}"
            arrays = trial.arrays
            validation = recovered_smoothing(arrays.validation_logits, arrays.validation_labels)
            print(line(name, "validation", validation))
            print(line(name, "test", recovered_smoothing(arrays.test_logits, arrays.test_labels)))
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = (images / 16)[order], labels[order]
    for name, classifier in CLASSIFIERS.items():
        for digits in (10, 4):
            train, held_out = (part[y[part] < digits] for part in np.split(np.arange(len(y)), [1000]))
            classifier.fit(x[train], y[train])
            with np.errstate(divide="ignore"):
                logits = np.log(classifier.predict_proba(x[held_out]))
            result = recovered_smoothing(logits, y[held_out])
            print(line(f"{name}, {digits} digits", "held out", result), flush=True)


def line(name: str, rows: str, result: RecoveredSmoothing) -> str:
    eps = result.uniform
    found = "–" if eps is None else f"{eps.value:.3f}"
    interval = "–" if eps is None else f"{eps.low:.3f} – {eps.high:.3f}"
    spreads = f"{result.log_odds_spread:.2f} | {result.wrong_spread:.2f}"
    return f"| {name} | {rows} | {result.verdict} | {found} | {interval} | {spreads} |"


if __name__ == "__main__":
    main()
