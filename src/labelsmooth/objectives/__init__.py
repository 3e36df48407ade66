"""Objectives of training a classifier, by name: `uniform:0.1`, `confidence_penalty:0.1`, `mixup:0.2`.

An `Objective` is such a name, parsed and checked; its `Criterion` is the loss of one training. Adding one is
a class in `cross_entropies.py` or `penalised.py`, and nothing else.
"""

from labelsmooth.objectives.criterion import CHUNK_ROWS, Criterion, LinearOutput, Loss, TrainingFacts
from labelsmooth.objectives.objective import FORMS, OBJECTIVES, Objective

__all__ = [
    "CHUNK_ROWS",
    "FORMS",
    "OBJECTIVES",
    "Criterion",
    "LinearOutput",
    "Loss",
    "Objective",
    "TrainingFacts",
]
