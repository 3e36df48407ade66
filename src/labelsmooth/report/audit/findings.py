"""What an audit says in words: each finding with its numbers, and "cannot tell" where intervals say so."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labelsmooth.audit import Audit, Model, Pair
from labelsmooth.evaluation import Evaluation, Numbers
from labelsmooth.measure import Interval, RecoveredSmoothing
from labelsmooth.measure.format import show
from labelsmooth.measure.recovery import FEWEST_ROWS, LARGEST_WRONG_SPREAD
from labelsmooth.report.shared.words import counted

CANNOT_TELL = "cannot tell"

# Spread of the wrong classes' logits over the gap to the label's; at least the second in networks that were
# trained with hard labels (docs/findings.md).
POOR, RICH = LARGEST_WRONG_SPREAD, 0.24

# The ends of the interval of a temperature that is known: a factor of two to either side.
_KNOWN_WITHIN = 4


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An answer to one question about a model."""

    question: str
    answer: str
    sentence: str


def findings(model: Evaluation) -> tuple[Finding, ...]:
    """The findings on one model."""
    found = [_confidence(model), _temperature(model), _repair(model), _threshold(model)]
    if model.recovered is not None:
        found += [_smoothing(model, model.recovered), _teacher(model, model.recovered)]
    return tuple(found)


def remarks(model: Model) -> tuple[str, ...]:
    """The notes on a model that no finding says already."""
    said = {found.sentence for found in findings(model.evaluation)}
    return tuple(note for note in model.notes if note not in said)


def headlines(audit: Audit) -> tuple[str, ...]:
    """The first answers, a sentence for each model."""
    parts = []
    for model in audit.models:
        confidence, *_ = findings(model.evaluation)
        answer = (
            "neither over- nor under-confident as far as these rows can tell"
            if confidence.answer == CANNOT_TELL
            else confidence.answer
        )
        accuracy = show("accuracy", model.evaluation.numbers["all"]["accuracy"])
        chance = f", {_by_chance(model.evaluation)}," if _at_chance(model.evaluation) else ""
        parts.append(f"{model.name} is right on {accuracy} of its rows{chance} and {answer}.")
    return tuple(parts)


def reference(audit: Audit) -> str:
    """Which models are compared, and at what level; empty where none are."""
    if not audit.pairs:
        return ""
    words = f"{audit.models[0].name}, named first, is the reference"
    if len(audit.models) == 2:
        return f"{words}."
    words += ": every other model is compared with it, and with the one named before it."
    if len(audit.pairs) > 1:
        words += (
            f" So that the intervals of a number in all {len(audit.pairs)} comparisons hold at once in 95 % "
            f"of cases, each is one of {100 * audit.pairs[0].level:.3g} %."
        )
    return words


def comparison(pair: Pair) -> tuple[str, ...]:
    """Which of two models has the lower NLL, as given and with a temperature each."""
    sentences = []
    for part, words in (("all", "As given"), ("with_temperature", "With the temperature of each")):
        if part not in pair.numbers or not math.isfinite(pair.numbers[part]["nll"].value):
            continue
        difference = pair.numbers[part]["nll"]
        above = difference.value > 0
        noise = ", which is within noise" if within_noise(difference) else ""
        sentences.append(
            f"{words}, the NLL of {pair.of} is {show('nll', difference if above else negated(difference))} "
            f"{'above' if above else 'below'} that of {pair.minus}{noise}."
        )
    if "with_temperature" not in pair.numbers:
        sentences.append("With a temperature they cannot be compared: not both have one on the same rows.")
    return tuple(sentences)


def within_noise(interval: Interval) -> bool:
    """Whether 0 lies in an interval."""
    return interval.low <= 0 <= interval.high


def negated(interval: Interval) -> Interval:
    """The interval of the opposite number."""
    return Interval(value=-interval.value, low=-interval.high, high=-interval.low)


def _confidence(model: Evaluation) -> Finding:
    question = "Is it as sure as it is right?"
    over, error = model.numbers["all"]["over_confidence"], model.numbers["all"]["ece"]
    ece = show("ece", error)
    if (ratio := model.numbers["all"].get("ece_ratio")) is not None:
        ece += f", {ratio.value:.1f} times what noise alone makes of it"
    if over.low > 0 or over.high < 0:
        above = over.low > 0
        amount = over if above else negated(over)
        return Finding(
            question=question,
            answer="over-confident" if above else "under-confident",
            sentence=f"Mean confidence is {show('over_confidence', amount)} "
            f"{'above' if above else 'below'} the accuracy; the ECE is {ece}.",
        )
    if error.low > 0:
        return Finding(
            question=question,
            answer="over-confident on some rows and under-confident on others",
            sentence=f"Mean confidence minus accuracy is {show('over_confidence', over)}, but only "
            f"because the two cancel on the whole: the ECE is {ece}.",
        )
    return Finding(
        question=question,
        answer=CANNOT_TELL,
        sentence=f"Mean confidence minus accuracy is {show('over_confidence', over)}, which has 0 "
        f"in it, so on the whole neither over- nor under-confidence shows; the ECE is {ece}.",
    )


def _temperature(model: Evaluation) -> Finding:
    question = "Does a temperature help?"
    if model.untold is not None:
        return Finding(question=question, answer=CANNOT_TELL, sentence=model.untold)
    before, after = model.numbers["held_out"], model.numbers["with_temperature"]
    change = model.numbers["change_by_temperature"]["nll"]
    helps = change.high < 0 or after["ece"].high < before["ece"].low
    harms = change.low > 0 or after["ece"].low > before["ece"].high
    fitted = model.numbers["fitted"]
    temperature = fitted["temperature"]
    yes = "yes"
    if temperature.high > _KNOWN_WITHIN * temperature.low:
        yes += ", but the rows that it was fitted on hardly tell which"
    if math.isnan(change.value):  # no change of it, up or down, is told then
        nll = "the NLL is infinite with it and without it"
    else:
        nll = (
            f"the NLL with it is {show('nll', after['nll'])} instead of {show('nll', before['nll'])}, a "
            f"change of {show('nll', change)}"
        )
    return Finding(
        question=question,
        answer={
            (True, False): yes,
            (False, True): "no, it harms",
            (True, True): "the NLL and the ECE disagree",
            (False, False): CANNOT_TELL,
        }[helps, harms],
        sentence=f"T = {show('temperature', temperature)}, fitted on {_rows(fitted)}. On {_rows(before)} "
        f"that it was not fitted on, {nll}, and the ECE is {show('ece', after['ece'])} instead of "
        f"{show('ece', before['ece'])}.",
    )


def _repair(model: Evaluation) -> Finding:
    question = "Does another confidence (p-norm) help to choose what to answer?"
    fitted = model.numbers["fitted"]
    if fitted["pnorm"].value == 0:
        return Finding(
            question=question,
            answer="no",
            sentence=f"On the {fitted['rows'].value:,} rows that it was chosen on, no p of 1 to 10 had a "
            "lower AURC than the largest probability, whose AURC is "
            f"{show('aurc', model.numbers['all']['aurc'])}.",
        )
    change, before, after = (
        model.numbers[part]["aurc"] for part in ("change_by_pnorm", "held_out", "with_pnorm")
    )
    return Finding(
        question=question,
        answer="yes" if change.high < 0 else "no, it harms" if change.low > 0 else CANNOT_TELL,
        sentence=f"With p = {fitted['pnorm'].value:g} the AURC is {show('aurc', after)} "
        f"instead of {show('aurc', before)}, a change of {show('aurc', change)}.",
    )


def _threshold(model: Evaluation) -> Finding:
    fitted = model.numbers["fitted"]
    precision, threshold = fitted["precision"].value, fitted["threshold"].value
    rows = f"the {fitted['rows'].value:,} rows that a threshold is chosen on"
    if "above_threshold" not in model.numbers:
        answer, sentence = "nothing", f"On {rows} no confidence reaches that precision."
    else:
        above = model.numbers["above_threshold"]
        short = not above["accuracy"].high >= precision  # also where it answers nothing
        share = round(100 * above["coverage"].value)
        answer = "nothing, as far as these rows can tell" if short else f"about {share} % of its rows"
        sentence = (
            f"On {rows}, a confidence of {threshold:.6g} or more reaches it. Of the others it then answers "
            f"{show('coverage', above['coverage'])}, and {show('accuracy', above['accuracy'])} of these "
            "answers are right."
        )
    return Finding(
        question=f"How much can it answer with {100 * precision:.3g} % of the answers right?",
        answer=answer,
        sentence=sentence,
    )


def _smoothing(model: Evaluation, found: RecoveredSmoothing) -> Finding:
    question = "Was it trained with label smoothing?"
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


def _teacher(model: Evaluation, found: RecoveredSmoothing) -> Finding:
    question = "Would it be a poor teacher?"
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
    return Finding(
        question=question,
        answer=answer,
        sentence=f"Within a row the logits of the wrong classes spread over {found.wrong_spread:.2f} of the "
        "gap up to the label: the less they differ, the less they tell a student of how classes resemble "
        f"each other. Networks trained with ε from 0.05 on leave at most {POOR:g}, those without at least "
        f"{RICH:g}.",
    )


def _rows(numbers: Numbers) -> str:
    return counted(int(numbers["rows"].value), "row")


def _at_chance(model: Evaluation) -> bool:
    """Whether its accuracy may be that of one answer for all rows."""
    return model.numbers["all"]["accuracy"].low <= model.chance


def _by_chance(model: Evaluation) -> str:
    chance = show("accuracy", model.chance)
    return f"no more than one and the same answer for all rows could be ({chance})"


def _learned_nothing(model: Evaluation) -> str:
    accuracy = show("accuracy", model.numbers["all"]["accuracy"])
    return f"It is right on {accuracy} of its rows, {_by_chance(model)}."


def _eps(interval: Interval) -> str:
    return f"{interval.value:.2g} ({interval.low:.2g} to {interval.high:.2g})"


def _capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
