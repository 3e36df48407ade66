"""The catalogue of every number that the package reports, and of the measures that every evaluation takes.

A table, a chart, a tracker, an adapter or a comparison asks it what to call a number and how to show it. The
name does not depend on what was done to the predictions before: the ECE at a fitted temperature is the
quantity `ece` of other predictions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal["share", "points", "nats", "count", ""]
Better: TypeAlias = Literal["low", "high", "zero"]
Group: TypeAlias = Literal[
    "scores",
    "calibration",
    "selective",
    "repair",
    "layer",
    "teacher",
    "smoothing",
    "distillation",
    "text",
    "training",
]

GROUP_TITLES: Mapping[Group, str] = {
    "scores": "Predictions",
    "calibration": "Calibration",
    "selective": "Answering only some rows",
    "repair": "What was fitted",
    "layer": "Last layer",
    "teacher": "As a teacher",
    "smoothing": "Signs of label smoothing",
    "distillation": "Distillation",
    "text": "Texts",
    "training": "Training",
}


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """The meaning of a number, apart from its value.

    Attributes:
        name: the key under which measures, files and tables hold it.
        title: a few words for a heading or an axis, without the unit.
        unit: "share" of 0..1 that is shown in percent, "points" for a difference of two of these, "nats",
            "count", or "" for a plain number.
        better: which values are good; None where the number by itself is neither good nor bad.
        bounds: the least and the largest value that it can have.
        note: one sentence on what it is.
        group: the numbers that it stands among.
    """

    name: str
    title: str
    unit: Unit
    better: Better | None
    bounds: tuple[float, float]
    note: str
    group: Group

    @property
    def label(self) -> str:
        """The title with the unit, for a heading or an axis: "ECE (%)"."""
        unit = {"share": "%", "points": "points", "nats": "nats"}.get(self.unit)
        return self.title if unit is None else f"{self.title} ({unit})"

    @property
    def difference(self) -> Quantity:
        """The difference of two such numbers."""
        low, high = self.bounds
        unit: Unit = "points" if self.unit == "share" else self.unit
        return replace(self, unit=unit, bounds=(low - high, high - low))


_SHARE, _POSITIVE = (0.0, 1.0), (0.0, math.inf)


def _group(
    group: Group, *rows: tuple[str, str, Unit, Better | None, tuple[float, float], str]
) -> tuple[Quantity, ...]:
    return tuple(
        Quantity(name=name, title=title, unit=unit, better=better, bounds=bounds, note=note, group=group)
        for name, title, unit, better, bounds, note in rows
    )


_ALL = (
    *_group(
        "scores",
        ("rows", "rows", "count", None, _POSITIVE, "Number of rows that count."),
        ("accuracy", "accuracy", "share", "high", _SHARE,
         "Share of rows whose label has the largest prediction."),
        ("nll", "NLL", "nats", "low", _POSITIVE, "Mean negative log-likelihood of the label."),
        ("infinite_nll_rows", "rows of infinite NLL", "count", "low", _POSITIVE,
         "Number of rows that give their label the probability 0."),
        ("brier", "Brier score", "", "low", (0.0, 2.0),
         "Mean squared distance of the predicted probabilities from the label's one-hot vector."),
        ("entropy", "entropy", "nats", None, _POSITIVE, "Mean entropy of the predictions."),
        ("mean_confidence", "mean confidence", "share", None, _SHARE,
         "Mean of the largest predicted probability."),
        ("over_confidence", "over-confidence", "points", "zero", (-1.0, 1.0),
         "Mean confidence minus accuracy; negative for an under-confident classifier."),
    ),
    *_group(
        "calibration",
        ("ece", "ECE", "share", "low", _SHARE,
         "Expected calibration error: mean distance of accuracy from confidence in bins of equal width."),
        ("ece_by_chance", "ECE by chance", "share", None, _SHARE,
         "Mean ECE of calibrated classifiers with as many rows of the same confidences."),
        ("ece_ratio", "ECE over ECE by chance", "", "low", _POSITIVE,
         "1 where the ECE is what noise alone makes of it."),
        ("ece_l2", "ECE, L2", "share", "low", _SHARE,
         "Root-mean-square distance of accuracy from confidence in bins of equal width."),
        ("debiased_l2", "ECE, L2, debiased", "share", "low", _SHARE,
         "The root-mean-square calibration error less what noise adds to it."),
        ("ece_equal_mass", "ECE, equal mass", "share", "low", _SHARE,
         "Mean distance of accuracy from confidence in bins of about equally many rows."),
        ("smece", "smooth ECE", "share", "low", _SHARE,
         "Calibration error smoothed by a kernel as wide as the error itself, without bins."),
        ("mce", "MCE", "share", "low", _SHARE,
         "Maximum calibration error: the largest distance of accuracy from confidence of a bin."),
        ("classwise_ece", "classwise ECE", "share", "low", _SHARE,
         "Mean over classes of the calibration error of the class's own probability."),
    ),
    *_group(
        "selective",
        ("aurc", "AURC", "", "low", _SHARE,
         "Area under the risk–coverage curve: the error rate among the most confident rows, averaged."),
        ("augrc", "AUGRC", "", "low", (0.0, 0.5),
         "Area under the generalised risk–coverage curve, of errors accepted among all rows."),
        ("oracle_aurc", "oracle AURC", "", None, _SHARE,
         "The AURC that the same predictions have where every error comes last."),
        ("random_aurc", "AURC of a random order", "", None, _SHARE,
         "The error rate, which a random order has."),
        ("excess_aurc", "excess AURC", "", "low", _SHARE, "The AURC less the oracle AURC."),
        ("coverage_at_1pct_risk", "coverage at 1 % risk", "share", "high", _SHARE,
         "The largest share of rows that can be answered with at most 1 % of the answers wrong."),
    ),
    *_group(
        "repair",
        ("temperature", "temperature", "", None, _POSITIVE,
         "The T for which softmax(z/T) has the lowest NLL on the rows that it is fitted on."),
        ("pnorm", "p of the p-norm", "count", None, (0.0, 10.0),
         "The p of the p-norm confidence with the lowest AURC; 0 where the largest probability is as good."),
        ("precision", "precision wanted", "share", None, _SHARE,
         "Share of the answers to be right, which a threshold is chosen for."),
        ("threshold", "threshold of confidence", "", None, _SHARE,
         "The lowest confidence from which on the answers have the precision wanted."),
        ("coverage", "coverage", "share", "high", _SHARE,
         "Share of the rows whose confidence is at least the threshold."),
    ),
    *_group(
        "layer",
        ("spread", "spread of the features", "", None, _POSITIVE,
         "Scatter of features around their class means over the scatter of the class means."),
        ("spread_in_span", "spread that the logits see", "", None, _POSITIVE,
         "The spread of the features within the span of the templates."),
        ("class_separation", "class separation R²", "", None, _SHARE,
         "1 less the cosine distance of features of one class over that of features of any two."),
        ("nc1", "NC1", "", None, _POSITIVE,
         "Collapse within classes, tr(Σ_W Σ_B⁺)/C: 0 where the features of a class coincide."),
        ("nc1_in_span", "NC1 that the logits see", "", None, _POSITIVE,
         "NC1 of the features within the span of the templates."),
        ("nc2", "NC2", "", None, (0.0, 2.0), "Distance of the class means from a simplex frame."),
        ("nc2_templates", "NC2 of the templates", "", None, (0.0, 2.0),
         "Distance of the classifier's templates from a simplex frame."),
        ("nc2_triangle", "NC2 of three classes", "", None, (0.0, 2.0),
         "Distance of three class means, in the plane of their templates, from an equilateral triangle."),
        ("nc3", "NC3", "", None, (0.0, 2.0), "Distance of the class means from the classifier's templates."),
        ("duality_error", "duality error", "", None, (0.0, 2.0),
         "Distance of the products of templates and class means from those of a simplex frame."),
    ),
    *_group(
        "teacher",
        ("equivalent_smoothing", "equivalent smoothing γ", "", None, (0.0, 2.0),
         "The ε of uniform smoothing that takes as much probability off the label."),
        ("wrong_information", "information in wrong classes", "nats", None, _POSITIVE,
         "How far the wrong classes of a row are from equally probable."),
        ("wrong_sd", "spread of wrong logits", "nats", None, _POSITIVE,
         "Mean over rows of the standard deviation of the wrong classes' logits."),
        ("logit_gap", "logit gap", "nats", None, (-math.inf, math.inf),
         "Mean over rows of the label's logit less the mean of the others."),
        ("mutual_information", "information on inputs", "nats", None, _POSITIVE,
         "Mutual information of an input's index and a logit difference under augmentation."),
    ),
    *_group(
        "smoothing",
        ("recovered_eps", "recovered ε", "", None, _SHARE,
         "The ε of uniform smoothing that the logits look trained with."),
        ("log_odds", "median log-odds of the label", "nats", None, _POSITIVE,
         "Median log-odds of the label against the average wrong class, of rows classified correctly."),
        ("log_odds_spread", "spread of the log-odds", "", None, _POSITIVE,
         "Interquartile range of the label's log-odds over their median."),
        ("wrong_spread", "relative spread of wrong logits", "", None, _POSITIVE,
         "Median of the wrong logits' standard deviation over the label's distance from their mean."),
    ),
    *_group(
        "distillation",
        ("agreement", "agreement with the teacher", "share", "high", _SHARE,
         "Share of rows that student and teacher give the same class."),
        ("kl", "KL from the teacher", "nats", "low", _POSITIVE,
         "Mean divergence KL(teacher‖student) at the temperature of the distillation."),
    ),
    *_group(
        "text",
        ("perplexity", "perplexity", "", "low", (1.0, math.inf), "The exponential of the NLL of a token."),
        ("nce", "NCE", "", "high", (-math.inf, 1.0),
         "Normalised cross-entropy: 1 less that of the confidences over that of the accuracy as confidence."),
        ("bleu", "BLEU", "", "high", (0.0, 100.0),
         "Geometric mean of the precisions of 1- to 4-grams of words, less where texts are too short."),
        ("chrf", "chrF", "", "high", (0.0, 100.0),
         "F-score, with β = 2, of n-grams of up to 6 characters."),
        ("ter", "TER", "", "low", _POSITIVE,
         "Edits that would make the reference of the text, for 100 words of the reference."),
        ("length_ratio", "length ratio", "", None, _POSITIVE,
         "Words of the texts over those of their references."),
        ("wer", "WER", "", "low", _POSITIVE,
         "Word error rate: words substituted, deleted or inserted, for 100 words of the references."),
        ("cer", "CER", "", "low", _POSITIVE,
         "Character error rate: characters substituted, deleted or inserted, for 100 of the references."),
        ("sentence_risk", "risk of a sentence", "share", "low", _SHARE,
         "1 less the chrF of a translated sentence, or the WER of a recognised one, up to 1; the mean."),
        ("sentence_aurc", "AURC of sentences", "", "low", _SHARE,
         "Area under the risk–coverage curve of sentences, with the risk of a sentence."),
    ),
    *_group(
        "training",
        ("loss", "training loss", "nats", "low", (-math.inf, math.inf),
         "The objective, averaged over an epoch as the weights moved."),
    ),
)  # fmt: skip

# The measures that every evaluation takes, as `module:class` of this folder: of the probabilities of each set
# of rows (`protocol.ProbabilityMeasure`), and of the logits of all rows.
OF_PROBABILITIES = ("calibration:Calibration", "selective:Selective")
OF_LOGITS = ("teacher:Teacher", "gap_histogram:GapHistogram", "recovery:SmoothingRecovery")

QUANTITIES: Mapping[str, Quantity] = MappingProxyType({quantity.name: quantity for quantity in _ALL})


def quantities(*groups: Group) -> tuple[Quantity, ...]:
    """The quantities of these groups, in the order of the catalogue.

    Example:
        >>> [quantity.name for quantity in quantities("distillation")]
        ['agreement', 'kl']
    """
    return tuple(quantity for quantity in _ALL if quantity.group in groups)
