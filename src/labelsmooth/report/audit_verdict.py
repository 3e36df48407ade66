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
        return not (self.interval.low > 0 or self.interval.high < 0)


def findings(model: Measured) -> tuple[Finding, ...]:
    """What was found of one model."""
    return (
        _confidence(model),
        _temperature(model),
        _repair(model),
        _smoothing(model),
        _teacher(model),
    )


def headline(audit: Audit) -> str:
    """The first answers, in one sentence a model."""
    parts = []
    for model in audit.models:
        confidence, *_ = findings(model)
        answer = (
            "neither over- nor under-confident as far as these rows can tell"
            if confidence.answer == CANNOT_TELL
            else confidence.answer
        )
        accuracy = with_interval(model.metrics["accuracy"], "accuracy")
        parts.append(f"{model.name} is right on {accuracy} of its rows and {answer}.")
    return " ".join(parts)


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
    return f"{factor * value:,.{digits}f}{' %' if unit and factor == 100 else ''}".replace("-", "−")


def with_interval(interval: Interval, metric: str, *, unit: bool = True) -> str:
    """A value with its 95 % interval in brackets, where there is one."""
    shown = number(interval.value, metric, unit=unit)
    if math.isnan(interval.low):
        return shown
    return f"{shown} ({number(interval.low, metric)} to {number(interval.high, metric)})"


def _confidence(model: Measured) -> Finding:
    question = "Is it as sure as it is right?"
    over, ece = model.metrics["over_confidence"], with_interval(model.metrics["ece"], "ece")
    if over.low > 0 or over.high < 0:
        above = over.low > 0
        amount = over if above else Interval(value=-over.value, low=-over.high, high=-over.low)
        return Finding(
            question=question,
            answer="over-confident" if above else "under-confident",
            sentence=f"Mean confidence is {with_interval(amount, 'over_confidence')} "
            f"{'above' if above else 'below'} the accuracy; the ECE is {ece}.",
        )
    return Finding(
        question=question,
        answer=CANNOT_TELL,
        sentence=f"Mean confidence minus accuracy is {with_interval(over, 'over_confidence')}, which has 0 in it, "
        f"so on the whole neither over- nor under-confidence shows; the ECE is {ece}.",
    )


def _temperature(model: Measured) -> Finding:
    question = "Does a temperature help?"
    temperature = model.metrics["temperature"]
    if math.isnan(temperature.value):
        return Finding(question=question, answer=CANNOT_TELL, sentence=model.notes[0])
    change = model.metrics["nll_change_by_temperature"]
    shown = {name: with_interval(model.metrics[name], name) for name in SCORES if "temperature" in name}
    told = temperature.low > 1 or temperature.high < 1
    if not told or not (change.high < 0 or change.low > 0):
        answer = CANNOT_TELL
    else:
        answer = "yes" if change.high < 0 else "no"
    return Finding(
        question=question,
        answer=answer,
        sentence=f"T = {shown['temperature']}"
        + ("" if told else ", which has 1 in it")
        + f"; with it the NLL is {shown['nll_after_temperature']} instead of {shown['nll_before_temperature']}, "
        f"a change of {with_interval(change, 'nll')}, and the ECE {shown['ece_after_temperature']} instead of "
        f"{shown['ece_before_temperature']}.",
    )


def _repair(model: Measured) -> Finding:
    question = "Does another confidence (p-norm) help to choose what to answer?"
    if math.isnan(model.metrics["repair_p"].value):
        return Finding(
            question=question,
            answer="no",
            sentence=f"On the {model.fitted_rows:,} rows that it was chosen on, no p of 1 to 10 had a lower AURC "
            f"than the largest probability, whose AURC is {with_interval(model.metrics['aurc'], 'aurc')}.",
        )
    change = model.metrics["aurc_change_by_repair"]
    if change.high < 0 or change.low > 0:
        answer = "yes" if change.high < 0 else "no"
    else:
        answer = CANNOT_TELL
    return Finding(
        question=question,
        answer=answer,
        sentence=f"With p = {model.metrics['repair_p'].value:g} the AURC is "
        f"{with_interval(model.metrics['aurc_repaired'], 'aurc_repaired')} instead of "
        f"{with_interval(model.metrics['aurc_before_repair'], 'aurc')}, a change of "
        f"{with_interval(change, 'aurc')}.",
    )


def _smoothing(model: Measured) -> Finding:
    question = "Was it trained with label smoothing?"
    found = model.recovered
    if found.uniform is None or found.others is None:
        answer = "it does not look so" if found.verdict == "hard" else CANNOT_TELL
        return Finding(question=question, answer=answer, sentence=_capitalised(f"{found.reason}."))
    return Finding(
        question=question,
        answer=f"it looks so, with ε of about {found.uniform.value:.2g}",
        sentence=f"The logit gaps of the rows that it has right gather around {found.gap:.3g} nats, where a "
        f"uniform smoothing of {_eps(found.uniform)}, or ε = {_eps(found.others)} shared by the other classes "
        "alone, is at its optimum: these two are the same targets. " + _capitalised(f"{found.reason}."),
    )


def _teacher(model: Measured) -> Finding:
    question = "Would it be a poor teacher?"
    teacher, found = model.teacher, model.recovered
    if model.num_classes == 2 or not math.isfinite(found.wrong_spread) or found.correct < FEWEST_ROWS:
        return Finding(
            question=question,
            answer=CANNOT_TELL,
            sentence="That shows in how the wrong classes of a row differ, which needs three classes, none of them "
            "with the probability 0, and rows that are classified correctly.",
        )
    if found.wrong_spread <= POOR:
        answer = "probably"
    else:
        answer = "nothing says so" if found.wrong_spread >= RICH else CANNOT_TELL
    return Finding(
        question=question,
        answer=answer,
        sentence=f"Within a row the logits of the wrong classes spread over {found.wrong_spread:.2f} of the gap up "
        "to the label: the less they differ, the less they tell a student of how classes resemble each other. "
        f"Networks trained with ε from 0.05 on leave at most {POOR:g}, those without at least {RICH:g}. As it is, "
        f"it teaches about what a smoothing of ε = {teacher.equivalent_smoothing:.2g} does, and the shares of the "
        f"wrong classes are {teacher.wrong_information:.2f} nats from equal, of at most "
        f"{math.log(model.num_classes - 1):.2f}.",
    )


def _eps(interval: Interval) -> str:
    return f"{interval.value:.2g} ({interval.low:.2g} to {interval.high:.2g})"


def _capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
