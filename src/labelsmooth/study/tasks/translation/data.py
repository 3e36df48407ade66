"""The sentence pairs of a study of translation, as tokens."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.sequences.pairs import PARTS, Pairs, read_pairs
from labelsmooth.study.tasks.sequences.sentences import SentencePairs
from labelsmooth.study.tasks.sequences.split import split_rows
from labelsmooth.study.tasks.sequences.vocabulary import Vocabulary, learn_vocabulary


@dataclass(frozen=True, kw_only=True)
class TranslationSummary:
    """What a reader of a study has to know of its data."""

    sha256: str  # of the sentences, their split and the vocabulary
    vocabulary: str  # as `Vocabulary.json`
    pad: int
    end: int
    start: int
    num_classes: int  # tokens of the vocabulary
    max_tokens: int  # of a sentence, the end among them
    train_pairs: int
    validation_pairs: int
    test_pairs: int
    train_rows: int  # target tokens
    validation_rows: int
    test_rows: int
    repeated: int  # pairs that were left out, as a sentence of theirs is in a part that is not trained on
    too_long: int  # pairs that were left out, as one of their sentences has more tokens

    @property
    def test_sentences(self) -> int:
        """The number of sentences that can be decoded."""
        return self.test_pairs


@dataclass(frozen=True, kw_only=True)
class TranslationData:
    """Sentence pairs in three parts that have no sentence in common."""

    train: SentencePairs
    validation: SentencePairs
    test: SentencePairs
    vocabulary: Vocabulary
    summary: TranslationSummary


def load_translation(
    name: str, *, vocabulary_size: int, max_tokens: int, vocabulary: Vocabulary | None = None
) -> TranslationData:
    """Read sentence pairs, split them, and make tokens of them.

    Args:
        name: of the data, as `read_pairs` takes it.
        vocabulary_size: tokens to learn from the training pairs.
        max_tokens: of a sentence; pairs with a longer one are left out of every part.
        vocabulary: of a network of the user's own, in place of one that is learned.

    Raises:
        FileNotFoundError: a file is missing.
        InputError: the data cannot be used, or more than two thirds of its pairs are too long.
        MissingPackage: a library of the extra `translation`, `verses` or `hf` is missing.

    Cost: about 10 s for 31,102 verses.
    """
    parts = split_rows(read_pairs(name), name)
    if vocabulary is None:
        vocabulary = learn_vocabulary((*parts.train.sources, *parts.train.targets), vocabulary_size)
    kept = {part: _encoded(getattr(parts, part), vocabulary, max_tokens) for part in PARTS}
    count = {part: len(sentences) for part, sentences in kept.items()}
    pairs = sum(len(getattr(parts, part)) for part in PARTS)
    too_long = pairs - sum(count.values())
    if 3 * too_long > 2 * pairs or not all(count.values()):
        raise InputError(
            f"max_tokens must leave at least a third of the {pairs:,} sentence pairs of {name} and some of "
            f"each part, {max_tokens} leaves {count['train']:,} for training, {count['validation']:,} for "
            f"validation and {count['test']:,} for the test"
        )
    return TranslationData(
        **kept,
        vocabulary=vocabulary,
        summary=TranslationSummary(
            sha256=_sha256(kept, vocabulary),
            vocabulary=vocabulary.json,
            pad=vocabulary.pad,
            end=vocabulary.end,
            start=vocabulary.start,
            num_classes=len(vocabulary),
            max_tokens=max_tokens,
            train_pairs=count["train"],
            validation_pairs=count["validation"],
            test_pairs=count["test"],
            train_rows=kept["train"].rows,
            validation_rows=kept["validation"].rows,
            test_rows=kept["test"].rows,
            repeated=parts.repeated,
            too_long=too_long,
        ),
    )


def _encoded(pairs: Pairs, vocabulary: Vocabulary, max_tokens: int) -> SentencePairs:
    """Make tokens of the pairs of a part whose sentences are not too long."""
    sources, targets = vocabulary.encode(pairs.sources), vocabulary.encode(pairs.targets)
    kept = [row for row in range(len(pairs)) if max(len(sources[row]), len(targets[row])) <= max_tokens]
    chosen = pairs.select(kept)
    return SentencePairs(
        sources=chosen.sources,
        targets=chosen.targets,
        source_tokens=tuple(tuple(sources[row]) for row in kept),
        target_tokens=tuple(tuple(targets[row]) for row in kept),
        pad=vocabulary.pad,
    )


def _sha256(parts: dict[str, SentencePairs], vocabulary: Vocabulary) -> str:
    """Hash the sentences and the vocabulary, from which their tokens follow."""
    texts = {part: (sentences.sources, sentences.targets) for part, sentences in parts.items()}
    return hashlib.sha256(json.dumps([texts, asdict(vocabulary)]).encode()).hexdigest()
