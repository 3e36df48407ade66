"""The differences between two evaluations on the same rows, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from labelsmooth.errors import InputError
from labelsmooth.evaluation.numbers import Numbers, ordered
from labelsmooth.evaluation.result import Evaluation
from labelsmooth.evaluation.scores import row_numbers
from labelsmooth.evaluation.split import Split
from labelsmooth.measure.influence import PairedDifferences
from labelsmooth.measure.rows import RowNumbers
from labelsmooth.predictions import Batch


def paired_differences(
    first: Evaluation,
    second: Evaluation,
    splits: tuple[Split, Split],
    done: Callable[[int], None] = lambda _: None,
    level: float = 0.95,
) -> dict[str, Numbers]:
    """The numbers of one model minus those of another, as given and each with its temperature.

    Args:
        first, second: evaluations of the same rows in the same order.
        splits: that they are evaluations of.
        done: called with a number of rows that were gone through.
        level: of the intervals, in (0, 1).

    Returns:
        The differences by part: "all" of all rows as given; and "with_temperature" of the rows that nothing
        was fitted on, where both have a temperature and hold out the same rows.

    Raises:
        InputError: the two have other rows, in number or by their labels.

    Cost: a pass over all rows, and one over those held out.
    """
    first_split, second_split = splits
    rows = first_split.source.batches(), second_split.source.batches()
    found = {"all": _differences("all", first, second, *rows, done, level)}
    if None not in (first.temperature, second.temperature) and first_split.holds_out_as(second_split):
        held_out = first_split.held_out(), second_split.held_out()
        found["with_temperature"] = _differences("with_temperature", first, second, *held_out, done, level)
    return found


def side_by_side(first: Iterable[Batch], second: Iterable[Batch]) -> Iterator[tuple[Batch, Batch]]:
    """Pair the rows of both, whatever the sizes of their blocks.

    Raises:
        InputError: they have other rows, in number or by their labels.
    """
    others = iter(second)
    right: Batch | None = None
    start_of_block = 0
    for left in first:
        start = 0
        while start < len(left.labels):
            if right is None or not len(right.labels):
                right = next(others, None)
                if right is None:
                    rows = start_of_block + start
                    raise _other_rows(f"more than {rows:,} rows and {rows:,}")
                continue
            size = min(len(left.labels) - start, len(right.labels))
            pair = left.select(slice(start, start + size)), right.select(slice(0, size))
            differs = pair[0].labels != pair[1].labels
            if differs.any():
                row = start_of_block + start + int(differs.int().argmax())
                raise _other_rows(f"other labels from row {row:,} on")
            yield pair
            start, right = start + size, right.select(slice(size, None))
        start_of_block += len(left.labels)
    if (right is not None and len(right.labels)) or any(len(batch.labels) for batch in others):
        raise _other_rows(f"{start_of_block:,} rows and more than {start_of_block:,}")


def _other_rows(found: str) -> InputError:
    return InputError(f"two models can be compared on the same rows only, got {found}")


def _differences(
    part: str,
    first: Evaluation,
    second: Evaluation,
    rows: Iterable[Batch],
    other_rows: Iterable[Batch],
    done: Callable[[int], None],
    level: float,
) -> Numbers:
    differences = PairedDifferences(first.influences[part], second.influences[part])
    scaled = part == "with_temperature"

    def numbers(model: Evaluation, batch: Batch) -> RowNumbers:
        temperature = (model.temperature or 1.0) if scaled else 1.0
        return row_numbers(batch, are_probs=model.are_probs, temperature=temperature)

    for batch, other_batch in side_by_side(rows, other_rows):
        weights = None if batch.weights is None else batch.weights.numpy()
        differences.update(numbers(first, batch), numbers(second, other_batch), weights)
        done(len(batch.labels))
    return ordered(differences.intervals(level))
