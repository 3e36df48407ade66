"""Scores beside those of sacrebleu and jiwer, and their influences beside leaving sentences out."""

from pathlib import Path
from statistics import NormalDist

import jiwer
import numpy as np
import pytest
import sacrebleu
from sacrebleu.metrics import BLEU, CHRF, TER

from labelsmooth.study.tasks.sequences.pairs import read_pairs
from labelsmooth.study.tasks.sequences.quality import (
    best_of,
    edit_statistics,
    quality,
    quality_influences,
    sentence_scores,
    sentence_statistics,
    signatures,
)

REFERENCES = read_pairs(f"tsv:{Path(__file__).parents[3] / 'fixtures' / 'verses.tsv'}")["train"].targets
PEERS = {"bleu": BLEU(force=True), "chrf": CHRF(), "ter": TER()}


def worse(sentence: str, number: int) -> str:
    """A sentence with words left out, doubled and in another order."""
    words = sentence.split()
    if number % 3 == 0:
        words = words[2:] + words[:2]
    if number % 4 == 1:
        words = words[::2]
    return " ".join([*words, *words[: number % 5]])


HYPOTHESES = [worse(sentence, number) for number, sentence in enumerate(REFERENCES)]
PAIRS = list(zip(HYPOTHESES, REFERENCES, strict=True))


def same(hypotheses, references):
    found = quality(sentence_statistics(hypotheses, references))
    for name, peer in PEERS.items():
        assert found[name] == pytest.approx(peer.corpus_score(hypotheses, [references]).score, rel=1e-6), name
    return found


def test_scores_are_those_of_sacrebleu():
    found = same(HYPOTHESES, REFERENCES)
    assert 20 < found["bleu"] < 90
    bleu = PEERS["bleu"].corpus_score(HYPOTHESES, [REFERENCES])
    assert found["length_ratio"] == pytest.approx(bleu.sys_len / bleu.ref_len)
    assert quality(sentence_statistics(REFERENCES, REFERENCES)) == pytest.approx(
        {"bleu": 100, "chrf": 100, "ter": 0, "length_ratio": 1}
    )


@pytest.mark.parametrize(
    "hypotheses",
    [
        ["the light of the day"] * 3,  # too short, and without any 4-gram that is right
        ["God"] * 3,  # no 4-gram at all
        ["the the the the the"] * 3,
        ["xyz"] * 3,
        [""] * 3,
        ["and the earth " * 40] * 3,  # far too long
    ],
)
def test_bad_translations_have_the_scores_of_sacrebleu(hypotheses):
    same(hypotheses, REFERENCES[:3])


def test_draws_of_sentences_need_no_second_scoring():
    statistics = sentence_statistics(HYPOTHESES, REFERENCES)
    drawn = np.random.default_rng(0).integers(64, size=64)
    again = quality({name: each[drawn] for name, each in statistics.items()})
    for name, peer in PEERS.items():
        expected = peer.corpus_score([HYPOTHESES[n] for n in drawn], [[REFERENCES[n] for n in drawn]]).score
        assert again[name] == pytest.approx(expected, rel=1e-6)


def test_influences_have_the_scores_as_their_means_and_are_what_leaving_out_does():
    statistics = sentence_statistics(HYPOTHESES, REFERENCES)
    whole, influences = quality(statistics), quality_influences(statistics)
    for name, moved in influences.items():
        assert moved.mean() == pytest.approx(whole[name])
        without = np.array(
            [quality({of: np.delete(each, n, 0) for of, each in statistics.items()})[name] for n in range(64)]
        )
        jackknife = 63 * (whole[name] - without)
        assert np.corrcoef(jackknife, moved)[0, 1] > 0.999
        assert np.std(jackknife) == pytest.approx(np.std(moved), rel=0.05)


def test_the_chrf_of_each_sentence_is_that_of_sacrebleu():
    texts = [*HYPOTHESES, "", "xyz", "a", "the light of the day"]
    references = [*REFERENCES, *REFERENCES[:4]]
    counts = sentence_statistics(texts, references, ["chrf"])["chrf"]
    expected = [
        sacrebleu.sentence_chrf(text, [reference]).score
        for text, reference in zip(texts, references, strict=True)
    ]
    np.testing.assert_allclose(sentence_scores("chrf", counts), expected, rtol=1e-6)
    np.testing.assert_allclose(
        sentence_scores("chrf", counts.reshape(4, 17, 18)).ravel(), expected, rtol=1e-6
    )


def test_the_best_of_several_translations_has_the_highest_chrf():
    several = [[text, reference[: 3 * n], f"{text} {reference}"] for n, (text, reference) in enumerate(PAIRS)]
    counts = [
        sentence_statistics(texts, REFERENCES, ["bleu", "chrf"]) for texts in zip(*several, strict=True)
    ]
    nbest = {name: np.stack([each[name] for each in counts], 1) for name in ("bleu", "chrf")}
    best = [
        max(texts, key=lambda text: sacrebleu.sentence_chrf(text, [reference]).score)
        for texts, reference in zip(several, REFERENCES, strict=True)
    ]
    assert len({texts.index(text) for texts, text in zip(several, best, strict=True)}) == 3
    found = quality(best_of(nbest, "chrf"))
    assert list(found) == ["bleu", "chrf", "length_ratio"]
    for name in ("bleu", "chrf"):
        expected = PEERS[name].corpus_score(best, [REFERENCES]).score
        assert found[name] == pytest.approx(expected, rel=1e-6)
        assert quality_influences(best_of(nbest, "chrf"))[name].mean() == pytest.approx(expected)


def test_signatures_are_those_of_sacrebleu():
    assert signatures()["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert set(signatures()) == {"bleu", "chrf", "ter"}


def test_edits_are_those_of_jiwer():
    """Of all sentences and of each, one of which was not recognised at all."""
    hypotheses = ["", *HYPOTHESES[1:]]
    counts = edit_statistics(hypotheses, REFERENCES)
    found = quality(counts)
    assert list(found) == ["wer", "cer"]
    assert found["wer"] == pytest.approx(100 * jiwer.wer(list(REFERENCES), hypotheses), rel=1e-6)
    assert found["cer"] == pytest.approx(100 * jiwer.cer(list(REFERENCES), hypotheses), rel=1e-6)
    assert 20 < found["cer"] < found["wer"] < 120
    for row, (hypothesis, reference) in enumerate(zip(hypotheses, REFERENCES, strict=True)):
        for name, process in (("wer", jiwer.process_words), ("cer", jiwer.process_characters)):
            one = process(reference, hypothesis)
            assert counts[name][row].tolist() == [one.substitutions, one.deletions, one.insertions, one.hits]
    assert counts["wer"][0].tolist() == [0, len(REFERENCES[0].split()), 0, 0]
    influences = quality_influences(counts)
    for name, moved in influences.items():
        assert moved.mean() == pytest.approx(found[name])
        without = quality({of: np.delete(each, 3, axis=0) for of, each in counts.items()})[name]
        left_out = (found[name] - without) * (len(REFERENCES) - 1)
        assert left_out == pytest.approx(moved[3] - found[name], rel=0.05, abs=0.05)


def shifted_p(z: float) -> float:
    """The p of sacrebleu, P(|D| - E|D| > |d|) for draws D of a difference, which lie around d = z of them."""
    normal = NormalDist()
    least = z + 2 * normal.pdf(z) + z * (1 - 2 * normal.cdf(-z))
    return 1 - normal.cdf(least - z) + normal.cdf(-least - z)


def test_intervals_of_differences_are_those_of_a_paired_bootstrap():
    from sacrebleu.significance import PairedTest

    others = [worse(sentence, number + 1) for number, sentence in enumerate(REFERENCES)]
    slight = [
        other if n % 8 == 0 else text for n, (text, other) in enumerate(zip(HYPOTHESES, others, strict=True))
    ]
    metrics = {"BLEU": BLEU(references=[REFERENCES]), "chrF2": CHRF(references=[REFERENCES])}
    for systems in ((HYPOTHESES, others), (HYPOTHESES, slight)):
        named = [("first", systems[0]), ("second", systems[1])]
        _, found = PairedTest(named, metrics, references=None, test_type="bs", n_samples=1000)()
        moved = [
            quality_influences(sentence_statistics(texts, REFERENCES, ["bleu", "chrf"])) for texts in systems
        ]
        for name, results in (("bleu", found["BLEU"]), ("chrf", found["chrF2"])):
            errors = [each[name].std(ddof=1) / 8 for each in moved]
            for result, error in zip(results, errors, strict=True):
                assert 1.96 * error == pytest.approx(result.ci, rel=0.15)
            apart = moved[1][name] - moved[0][name]
            z = abs(apart.mean()) / (apart.std(ddof=1) / 8)
            assert shifted_p(z) == pytest.approx(results[1].p_value, abs=0.03)
