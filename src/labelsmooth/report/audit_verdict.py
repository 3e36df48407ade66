"""What an audit says in words: each finding with its numbers, and "cannot tell" where intervals say so."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labelsmooth.audit import Audit, Measured, Pair
from labelsmooth.measure.interval import Interval
from labelsmooth.measure.recovery import FEWEST_ROWS, LARGEST_WRONG_SPREAD

CANNOT_TELL = "cannot tell"

# Spread of the wrong classes' logits over the gap to the label's; at least the second in networks that were
# trained with hard labels (docs/findings.md).
POOR, RICH = LARGEST_WRONG_SPREAD, 0.24

_BY_CHANCE = "no more than one and the same answer for all rows could be ({:.2%})"

# Counts of rows stay below; what does not is written with its power of ten.
_LARGE = 1e12

# metrics of the tables: name, title, factor, digits
PERCENT, PLAIN = (100, 2), (1, 4)
SCORES: dict[str, tuple[str, tuple[int, int]]] = {
    "rows": ("rows", (1, 0)),
    "accuracy": ("accuracy (%)", PERCENT),
    "nll": ("NLL (nats)", PLAIN),
    "infinite_nll_rows": ("rows of infinite NLL", (1, 0)),
    "brier": ("Brier", PLAIN),
    "over_confidence": ("over-confidence (%)", PERCENT),
    "ece": ("ECE (%)", PERCENT),
    "ece_l2": ("ECE, L2 (%)", PERCENT),
    "debiased_l2": ("the same, debiased (%)", PERCENT),
    "smece": ("smooth ECE (%)", PERCENT),
    "mce": ("largest gap of a bin, MCE (%)", PERCENT),
    "temperature": ("temperature", (1, 3)),
    "nll_before_temperature": ("NLL without it", PLAIN),
    "nll_after_temperature": ("NLL with it", PLAIN),
    "ece_before_temperature": ("ECE without it (%)", PERCENT),
    "ece_after_temperature": ("ECE with it (%)", PERCENT),
    "aurc": ("AURC", PLAIN),
    "augrc": ("AUGRC", PLAIN),
    "coverage_at_1pct_risk": ("coverage at 1 % risk (%)", PERCENT),
    "repair_p": ("p of the repair", (1, 0)),
    "aurc_before_repair": ("AURC without it", PLAIN),
    "aurc_repaired": ("AURC with it", PLAIN),
    "spread": ("spread of the features", PLAIN),
    "spread_in_span": ("the same where the logits see it", PLAIN),
    "class_separation": ("class separation, R²", PLAIN),
    "nc1": ("neural collapse, NC1", PLAIN),
    "nc2": ("NC2", PLAIN),
    "nc3": ("NC3", PLAIN),
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An answer to one question about a model."""

    question: str
    answer: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One model's metric minus another's."""

    metric: str
    interval: Interval

    @property
    def within_noise(self) -> bool:
        """Whether 0 lies in the interval."""
        return self.interval.low <= 0 <= self.interval.high


def findings(model: Measured) -> tuple[Finding, ...]:
    """What was found of one model."""
    return (
        _confidence(model),
        _temperature(model),
        _repair(model),
        _smoothing(model),
        _teacher(model),
    )


def remarks(model: Measured) -> tuple[str, ...]:
    """The notes on a model that no finding says already."""
    said = {found.sentence for found in findings(model)}
    return tuple(note for note in model.notes if note not in said)


def headlines(audit: Audit) -> tuple[str, ...]:
    """The first answers, a sentence for each model."""
    parts = []
    for model in audit.models:
        confidence, *_ = findings(model)
        answer = (
            "neither over- nor under-confident as far as these rows can tell"
            if confidence.answer == CANNOT_TELL
            else confidence.answer
        )
        accuracy = with_interval(model.metrics["accuracy"], "accuracy")
        chance = f", {_BY_CHANCE.format(model.chance)}," if _at_chance(model) else ""
        parts.append(f"{model.name} is right on {accuracy} of its rows{chance} and {answer}.")
    return tuple(parts)


def differences(pair: Pair) -> tuple[Difference, ...]:
    """What separates two models on the same rows."""
    return tuple(
        Difference(metric=metric, interval=interval)
        for metric, interval in pair.metrics.items()
        if metric in SCORES
    )


def number(value: float, metric: str, *, unit: bool = False) -> str:
    """A value of a metric as it stands in the tables; "–" where there is none."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    factor, digits = SCORES[metric][1]
    shown = f"{factor * value:z,.{digits}f}" if abs(value) < _LARGE else f"{factor * value:.3e}"
    return f"{shown}{' %' if unit and factor == 100 else ''}".replace("-", "−")


def with_interval(interval: Interval, metric: str, *, unit: bool = True) -> str:
    """A value with its 95 % interval in brackets, where there is one."""
    shown = number(interval.value, metric, unit=unit)
    if math.isnan(interval.low) or math.isinf(interval.value):
        return shown
    return f"{shown} ({number(interval.low, metric)} to {number(interval.high, metric)})"


def _confidence(model: Measured) -> Finding:
    question = "Is it as sure as it is right?"
    over, error = model.metrics["over_confidence"], model.metrics["ece"]
    ece = with_interval(error, "ece")
    if over.low > 0 or over.high < 0:
        above = over.low > 0
        amount = over if above else Interval(value=-over.value, low=-over.high, high=-over.low)
        return Finding(
            question=question,
            answer="over-confident" if above else "under-confident",
            sentence=f"Mean confidence is {with_interval(amount, 'over_confidence')} "
            f"{'above' if above else 'below'} the accuracy; the ECE is {ece}.",
        )
    if error.low > 0:
        return Finding(
            question=question,
            answer="over-confident on some rows and under-confident on others",
            sentence=f"Mean confidence minus accuracy is {with_interval(over, 'over_confidence')}, but only "
            f"because the two cancel on the whole: the ECE is {ece}.",
        )
    return Finding(
        question=question,
        answer=CANNOT_TELL,
        sentence=f"Mean confidence minus accuracy is {with_interval(over, 'over_confidence')}, which has 0 "
        f"in it, so on the whole neither over- nor under-confidence shows; the ECE is {ece}.",
    )


def _temperature(model: Measured) -> Finding:
    question = "Does a temperature help?"
    temperature = model.metrics["temperature"]
    if math.isnan(temperature.value):
        return Finding(question=question, answer=CANNOT_TELL, sentence=model.notes[0])
    change, before, after = (
        model.metrics[f"{name}_temperature"] for name in ("nll_change_by", "ece_before", "ece_after")
    )
    helps = change.high < 0 or after.high < before.low
    harms = change.low > 0 or after.low > before.high
    if math.isnan(change.value):  # no change of it, up or down, is told then
        nll = "the NLL is infinite with it and without it"
    else:
        nll = (
            f"the NLL is {with_interval(model.metrics['nll_after_temperature'], 'nll')} instead of "
            f"{with_interval(model.metrics['nll_before_temperature'], 'nll')}, a change of "
            f"{with_interval(change, 'nll')}"
        )
    return Finding(
        question=question,
        answer={
            (True, False): "yes",
            (False, True): "no, it harms",
            (True, True): "the NLL and the ECE disagree",
            (False, False): CANNOT_TELL,
        }[helps, harms],
        sentence=f"T = {with_interval(temperature, 'temperature')}; with it {nll}, and the ECE is "
        f"{with_interval(after, 'ece')} instead of {with_interval(before, 'ece')}.",
    )


def _repair(model: Measured) -> Finding:
    question = "Does another confidence (p-norm) help to choose what to answer?"
    if math.isnan(model.metrics["repair_p"].value):
        aurc = with_interval(model.metrics["aurc"], "aurc")
        return Finding(
            question=question,
            answer="no",
            sentence=f"On the {model.fitted_rows:,} rows that it was chosen on, no p of 1 to 10 had a lower "
            f"AURC than the largest probability, whose AURC is {aurc}.",
        )
    change, before, after = (
        model.metrics[f"aurc_{name}"] for name in ("change_by_repair", "before_repair", "repaired")
    )
    return Finding(
        question=question,
        answer="yes" if change.high < 0 else "no, it harms" if change.low > 0 else CANNOT_TELL,
        sentence=f"With p = {model.metrics['repair_p'].value:g} the AURC is {with_interval(after, 'aurc')} "
        f"instead of {with_interval(before, 'aurc')}, a change of {with_interval(change, 'aurc')}.",
    )


def _smoothing(model: Measured) -> Finding:
    question = "Was it trained with label smoothing?"
    found = model.recovered
    if found.uniform is not None and _at_chance(model):
        return Finding(question=question, answer=CANNOT_TELL, sentence=_learned_nothing(model))
    if found.uniform is None or found.others is None:
        reason = f"{found.reason}."
        told = found.verdict == "hard" or found.correct < FEWEST_ROWS or model.num_classes == 2
        if not told and math.inf in (found.log_odds_spread, found.wrong_spread):
            reason = (
                "too many rows give a class the probability 0, or nearly so, for the spreads of their logits "
                "to say anything."
            )
        return Finding(
            question=question,
            answer="it does not look so" if found.verdict == "hard" else CANNOT_TELL,
            sentence=_capitalised(reason),
        )
    return Finding(
        question=question,
        answer=f"it looks so, with ε of about {found.uniform.value:.2g}",
        sentence=f"The logit gaps of the rows that it has right gather around {found.log_odds:.3g} nats, the "
        f"optimum of a uniform smoothing of {_eps(found.uniform)} and, as that is the same target, of one of "
        f"{_eps(found.others)} on the other classes alone. {_capitalised(found.reason)}. Boosted trees that "
        "were stopped early and students of a smoothed teacher look the same.",
    )


def _teacher(model: Measured) -> Finding:
    question = "Would it be a poor teacher?"
    teacher, found = model.teacher, model.recovered
    if model.num_classes == 2 or not math.isfinite(found.wrong_spread) or found.correct < FEWEST_ROWS:
        return Finding(
            question=question,
            answer=CANNOT_TELL,
            sentence="That shows in how the wrong classes of a row differ, which takes three classes, none "
            f"of them with the probability 0, and {FEWEST_ROWS} rows that are classified correctly.",
        )
    if _at_chance(model):
        return Finding(question=question, answer="probably", sentence=_learned_nothing(model))
    if found.wrong_spread <= POOR:
        answer = "probably"
    else:
        answer = "nothing says so" if found.wrong_spread >= RICH else CANNOT_TELL
    most = math.log(model.num_classes - 1)
    return Finding(
        question=question,
        answer=answer,
        sentence=f"Within a row the logits of the wrong classes spread over {found.wrong_spread:.2f} of the "
        "gap up to the label: the less they differ, the less they tell a student of how classes resemble "
        f"each other. Networks trained with ε from 0.05 on leave at most {POOR:g}, those without at least "
        f"{RICH:g}. As it is, it takes as much off the label as a smoothing of ε = "
        f"{teacher.equivalent_smoothing:.2g}, and how that is shared among the wrong classes is "
        f"{teacher.wrong_information:.2f} nats from equal, of at most {most:.2f}.",
    )


def _at_chance(model: Measured) -> bool:
    """Whether its accuracy may be that of one answer for all rows."""
    return model.metrics["accuracy"].low <= model.chance


def _learned_nothing(model: Measured) -> str:
    accuracy = with_interval(model.metrics["accuracy"], "accuracy")
    return f"It is right on {accuracy} of its rows, {_BY_CHANCE.format(model.chance)}."


def _eps(interval: Interval) -> str:
    return f"{interval.value:.2g} ({interval.low:.2g} to {interval.high:.2g})"


def _capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
