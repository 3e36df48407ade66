"""Pieces of words, or characters, that sentences are made of, learned from those to train on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra

PAD, END = 0, 1
_PAD, _END = "<pad>", "</s>"
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # one character, so that it is one error
SMALLEST = 256 + 2  # every byte is a token


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a network, and how text becomes them and back.

    Attributes:
        json: all of it, as the library tokenizers writes and reads it.
        pad: the token that fills up a batch.
        end: the last token of every sentence.
        start: what the decoder sees before the first token.
        reads_marks: whether the name of a token such as the end, where it stands in a text, is that token, as
            in dialogues that are written with theirs; else it is text.
    """

    json: str
    pad: int = PAD
    end: int = END
    start: int = PAD
    reads_marks: bool = False

    def __len__(self) -> int:
        size: int = self._tokenizer.get_vocab_size()
        return size

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Make tokens of sentences, with the end of each.

        Raises:
            InputError: a tokenizer that was saved puts its end elsewhere, or reads a part of a text as it.

        Cost: 1 s for 30,000 sentences of 25 words.
        """
        found = [[*encoded.ids] for encoded in self._tokenizer.encode_batch(list(sentences))]
        for sentence, ids in zip(sentences, found, strict=True):
            if self.end not in ids or ids.index(self.end) != len(ids) - 1:
                raise InputError(
                    f"a tokenizer must put its end, {self.end}, behind each sentence and nowhere else, it "
                    f"makes {ids!s:.80} of {sentence!r:.80}"
                )
        return found

    def encode_parts(self, texts: Sequence[str]) -> list[list[int]]:
        """Make tokens of texts as they are written, with no mark of a start or an end."""
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [[*encoded.ids] for encoded in found]

    def decode(self, tokens: Iterable[Sequence[int]]) -> list[str]:
        """Make sentences of tokens, without what only marks a start, an end or a gap."""
        sentences: list[str] = self._tokenizer.decode_batch([list(ids) for ids in tokens])
        return [sentence.strip() for sentence in sentences]

    @cached_property
    def _tokenizer(self) -> Any:
        with needs_extra("translation", "speech"):
            from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.json)
        tokenizer.no_truncation()  # which one that was saved may have on
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = not self.reads_marks
        return tokenizer


def learn_vocabulary(
    sentences: Iterable[str], size: int, *, pad: int = PAD, end: int = END, start: int = PAD
) -> Vocabulary:
    """Learn a vocabulary by byte-pair encoding of UTF-8, so that every text has tokens.

    Words begin with their space, and merges stop at borders of words. The same sentences give the same
    vocabulary, whatever their order.

    Args:
        sentences: to train on.
        size: tokens of the vocabulary, at least 258; it is smaller where no pair of tokens occurs twice.
        pad, end: 0 and 1, or 1 and 0.
        start: one of these.

    Cost: 3 s for 60,000 sentences of 25 words.

    Example:
        >>> vocabulary = learn_vocabulary(["the light and the dark", "the day"], 270)
        >>> tokens = vocabulary.encode(["the light", "the night"])
        >>> vocabulary.decode(tokens)
        ['the light', 'the night']
        >>> all(sentence[-1] == vocabulary.end for sentence in tokens)
        True

    Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; Radford et
    al. 2019, "Language Models are Unsupervised Multitask Learners", §2.2, for bytes.
    """
    with needs_extra("translation", "speech"):
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=_special(pad),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    return _with_ends(tokenizer, pad=pad, end=end, start=start)


def learn_characters(
    sentences: Iterable[str], *, pad: int = PAD, end: int = END, start: int = PAD
) -> Vocabulary:
    """Make a vocabulary of the characters of sentences, and one token for all others.

    Args:
        sentences, pad, end, start: as for `learn_vocabulary`.

    Example:
        >>> vocabulary = learn_characters(["a b", "b c"])
        >>> vocabulary.encode(["cab", "cat"])
        [[6, 4, 5, 1], [6, 4, 2, 1]]
        >>> vocabulary.decode([[6, 4, 3, 5, 1]])
        ['ca b']
    """
    with needs_extra("translation", "speech"):
        from tokenizers import Tokenizer, decoders, models

    tokens = [*_special(pad), _UNKNOWN, *sorted(set().union(*sentences))]
    numbers = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=numbers, merges=[], unk_token=_UNKNOWN))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(_special(pad))
    return _with_ends(tokenizer, pad=pad, end=end, start=start)


def _special(pad: int) -> list[str]:
    return [_PAD, _END] if pad == 0 else [_END, _PAD]


def _with_ends(tokenizer: Any, *, pad: int, end: int, start: int) -> Vocabulary:
    """Make a vocabulary of a tokenizer that is to put an end behind every sentence."""
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {_END}", special_tokens=[(_END, end)]
    )
    return Vocabulary(tokenizer.to_str(), pad=pad, end=end, start=start)
