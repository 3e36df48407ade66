"""Logs that lm-evaluation-harness writes with --log_samples: questions with options to choose from.

A line is a document. Its `filtered_resps` are pairs of an option's log-likelihood and whether greedy decoding
would write it, as numbers or as text, and its `target` is the index of the right option or its text. Formats
of versions 0.4.0 to 0.4.13.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import InputError
from labelsmooth.files import reading
from labelsmooth.predictions.table import Array, Column

_LOGS = "samples_*.jsonl"
_LOG = re.compile(r"samples_(.+?)(?:_(\d{4}-\d\d-\d\dT[\d.-]+))?\.jsonl")
_GREEDY = (True, False, "True", "False")


@dataclass(frozen=True, kw_only=True)
class _Question:
    """One document of a log."""

    task: str
    doc_id: int
    doc_hash: str | None  # of its text
    scores: npt.NDArray[np.float64]  # of its options
    label: int


class _NoQuestion(InputError):
    """A document is of a task of another kind: without options, or with several right ones."""


class LmEvalTable:
    """The questions of one model as a table: logits (N, K), labels (N,), and groups (N,), their tasks.

    Rows are in the order of tasks and documents, so that those of two models are the same. Questions of fewer
    options than K are padded with −inf. Of several runs of a task the newest counts, and tasks of another
    kind are left out; `notes` say so.

    Args:
        path: the folder of the logs.
        logs: of any tasks, with the time of each in its name.
        per_character: whether a score is the log-likelihood of an option over its characters, as the
            harness's `acc_norm` compares them, and not the log-likelihood itself (`acc`).

    Raises:
        InputError: no log is of questions with one right option, or one is damaged, holds a document twice,
            or has another right option than its own accuracy counts.
        OSError: one may not be read.

    Cost: one pass over the logs, of which only the numbers are kept.
    """

    def __init__(self, path: Path, logs: Sequence[Path], *, per_character: bool = False) -> None:
        self.path = path
        runs: defaultdict[str, set[Path]] = defaultdict(set)
        for log in logs:
            runs[_task(log)].add(log)
        newest = {task: max(runs[task], key=_time) for task in sorted(runs)}
        questions: list[_Question] = []
        of_another_kind: dict[str, _NoQuestion] = {}
        for task, log in newest.items():
            try:
                questions += _read(log, task, per_character)
            except _NoQuestion as error:
                of_another_kind[task] = error
        if not questions:
            _, reason = of_another_kind.popitem()
            raise InputError(f"{path} must hold a log of a multiple-choice task, got none: {reason}")
        options = [len(question.scores) for question in questions]
        self._scores = np.full((len(questions), max(options)), -math.inf)
        for row, question in enumerate(questions):
            self._scores[row, : len(question.scores)] = question.scores
        self._labels = np.array([question.label for question in questions])
        self._groups = np.array([question.task for question in questions])
        self.documents = {(question.task, question.doc_id): question.doc_hash for question in questions}
        self.columns = {
            "logits": Column(shape=self._scores.shape, kind="float"),
            "labels": Column(shape=self._labels.shape, kind="integer"),
            "groups": Column(shape=self._groups.shape, kind="text"),
        }
        fewest, most = min(options), max(options)
        notes = [
            f"Its probabilities are the softmax of the log-likelihoods{' per character' * per_character} "
            f"of the {most if fewest == most else f'{fewest} to {most}'} options of a question."
        ]
        if rerun := [f"{task} of {_time(newest[task])}" for task in newest if len(runs[task]) > 1]:
            notes.append(f"Of several runs of a task the newest is taken: {', '.join(rerun)}.")
        if of_another_kind:
            notes.append(
                f"Left out, as they ask for no choice of the one right option: {', '.join(of_another_kind)}."
            )
        self.notes = tuple(notes)

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
        arrays = {"logits": self._scores, "labels": self._labels, "groups": self._groups}
        for start in range(0, len(self._labels), rows):
            yield {name: arrays[name][start : start + rows].copy() for name in names}


def find_logs(files: Sequence[Path]) -> dict[Path, list[Path]]:
    """The logs of each model, by the folder that was named for it or that the logs named lie in.

    Args:
        files: logs, or folders of them: as the harness writes them, in a folder of the name of the model
            within that of its `--output_path`, either of which may be given.

    Raises:
        InputError: a folder holds no log, or those of several models.
    """
    found: dict[Path, list[Path]] = {}
    for file in files:
        folder, logs = (file, _logs_in(file)) if file.is_dir() else (file.parent, [file])
        found.setdefault(folder if folder.name else folder.resolve(), []).extend(logs)
    return found


def _logs_in(folder: Path) -> list[Path]:
    """The logs in a folder, or in the only one within it that holds some."""
    if logs := sorted(folder.glob(_LOGS)):
        return logs
    logs = sorted(folder.glob(f"*/{_LOGS}"))
    if not logs:
        raise InputError(
            f"{folder} must hold logs samples_TASK_TIME.jsonl of lm-evaluation-harness, or a folder of them, "
            "got none"
        )
    models = list(dict.fromkeys(str(log.parent) for log in logs))
    if len(models) > 1:
        raise InputError(
            f"{folder} must hold the logs of one model, got folders of several, each to be named by itself: "
            f"{', '.join(models)}"
        )
    return logs


def require_same_documents(table: LmEvalTable, other: LmEvalTable) -> None:
    """Check that two models answered the same questions.

    Raises:
        InputError: a document is missing in one, or its text differs.
    """
    pair = f"{table.path} must hold the documents of {other.path}"
    missing = sorted(table.documents.keys() ^ other.documents.keys())
    if missing:
        task, doc_id = missing[0]
        holder = table if missing[0] in table.documents else other
        raise InputError(f"{pair}, got document {doc_id} of {task} in {holder.path} alone")
    for (task, doc_id), doc_hash in table.documents.items():
        if doc_hash != other.documents[task, doc_id]:
            raise InputError(f"{pair}, got another text in document {doc_id} of {task}")


def _task(log: Path) -> str:
    match = _LOG.fullmatch(log.name)
    return match[1] if match else log.stem


def _time(log: Path) -> str:
    """When a log was written, in the order of its letters; "" where its name does not say."""
    match = _LOG.fullmatch(log.name)
    return (match and match[2]) or ""


def _read(log: Path, task: str, per_character: bool) -> list[_Question]:
    """The questions of a log in the order of their documents.

    Raises:
        _NoQuestion: its first document is none.
        InputError: it is damaged.
    """
    if not log.is_file():
        raise InputError(f"there is no file {log}")
    questions: dict[int, _Question] = {}
    with reading(log, (UnicodeDecodeError,)), log.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            try:
                question = _Line(f"{log} line {number}", line).question(task, per_character)
            except _NoQuestion as error:
                if questions:  # the log has both
                    raise InputError(str(error)) from error
                raise
            if question.doc_id in questions:
                raise InputError(f"{log} must hold each document once, got document {question.doc_id} again")
            questions[question.doc_id] = question
    if not questions:
        raise InputError(f"{log} holds no documents")
    return [questions[doc_id] for doc_id in sorted(questions)]


class _Line:
    """A line of a log, which names itself in what it refuses.

    Raises:
        InputError: it is no JSON object.
    """

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        try:
            self._fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name} is no JSON: {error}") from error
        if not isinstance(self._fields, dict):
            raise self._refused("a document", type(self._fields).__name__)

    def question(self, task: str, per_character: bool) -> _Question:
        """The document as a question.

        Raises:
            _NoQuestion: it has no options, or its target names none of them.
        InputError: it is damaged.
        """
        doc_id = self._field("doc_id")
        if not isinstance(doc_id, int):
            raise self._refused("a number in doc_id", repr(doc_id))
        likelihoods = self._likelihoods()
        label = self._label(likelihoods)
        self._check("acc", likelihoods, label)
        scores = likelihoods
        if per_character:
            # the harness puts a space before each option, and counts the characters without it
            lengths = [len(text.removeprefix(" ")) for text in self._options(len(likelihoods))]
            if 0 in lengths:
                raise self._refused("options of some characters", "an empty one")
            scores = likelihoods / lengths
            self._check("acc_norm", scores, label)
        return _Question(
            task=task, doc_id=doc_id, doc_hash=self._fields.get("doc_hash"), scores=scores, label=label
        )

    def _field(self, name: str) -> Any:
        if name not in self._fields:
            raise InputError(
                f"{self._name} has no {name}: an audit takes what lm_eval writes with --log_samples"
            )
        return self._fields[name]

    def _likelihoods(self) -> npt.NDArray[np.float64]:
        responses = self._field("filtered_resps")
        try:
            values = np.array([float(value) for value, greedy in responses if greedy in _GREEDY])
        except (ValueError, TypeError, OverflowError):
            values = np.zeros(0)
        if len(values) < 2 or len(values) != len(responses):
            raise self._refused(
                "two options or more in filtered_resps, [log-likelihood, greedy] each, as multiple-choice "
                "tasks do",
                _short(responses),
                _NoQuestion,
            )
        if "acc_mutual_info" in self._fields:  # the same options without their question follow
            values = values[: len(values) // 2]
        if not (values <= 0).all() or values.max() == -math.inf:
            raise self._refused(
                "log-likelihoods in filtered_resps, none above 0 and not all −inf", _short(responses)
            )
        return values

    def _options(self, count: int) -> list[str]:
        """The texts of the options, each with what stands between it and the question."""
        arguments = self._field("arguments")
        try:
            requests = list(arguments.values() if isinstance(arguments, Mapping) else arguments)[:count]
            texts = [list(each.values() if isinstance(each, Mapping) else each)[1] for each in requests]
        except (TypeError, IndexError):
            texts = []
        if len(texts) != count or not all(isinstance(text, str) for text in texts):
            raise self._refused("the text of each option in arguments", _short(arguments))
        return texts

    def _label(self, likelihoods: npt.NDArray[np.float64]) -> int:
        target, count = self._field("target"), len(likelihoods)
        if isinstance(target, int) or (isinstance(target, str) and re.fullmatch(r"-?[0-9]{1,9}", target)):
            if not 0 <= int(target) < count:
                raise self._refused(f"a target in 0..{count - 1}", str(target))
            return int(target)
        same = [at for at, text in enumerate(self._options(count)) if text.strip() == str(target).strip()]
        if len(same) == 2 == count and self._fields.get("acc") in (0, 1):
            # the two stand in the question, as in Winogrande, and only the accuracy tells the right one
            best = int(likelihoods.argmax())
            return best if self._fields["acc"] else 1 - best
        if len(same) != 1:
            raise self._refused(
                "the index or the text of one option in target", repr(target)[:60], _NoQuestion
            )
        return same[0]

    def _check(self, name: str, scores: npt.NDArray[np.float64], label: int) -> None:
        """Hold the accuracy in the log against that of its target."""
        if name in self._fields and self._fields[name] != float(scores.argmax() == label):
            raise self._refused(f"the {name} of its target {label}", repr(self._fields[name]))

    def _refused(self, expected: str, got: str, error: type[InputError] = InputError) -> InputError:
        return error(f"{self._name} must hold {expected}, got {got}")


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]
