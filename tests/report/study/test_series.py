"""Figures, differences and words of numbers along what they depend on, in a real, tiny study of translation."""

import json
import re

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from markupsafe import escape
from pages import complaints, fitting_figures
from tiny_studies import tiny_models
from translations import FILE

from labelsmooth.report import scores_table, verdict, write_report
from labelsmooth.report.study.estimate import estimate, show
from labelsmooth.report.study.methods import facts, paragraph
from labelsmooth.report.study.numbers import Networks
from labelsmooth.report.study.series import Line, _best_temperatures
from labelsmooth.study import load_study, run_study
from labelsmooth.study.tasks.shown import Series
from labelsmooth.study.tasks.translation import TASK, Recipe

MARKUP = '<img src="x" onerror="alert(1)"> & {{ 7*7 }} </script>'
FIGURES = {"temperatures", "beams", "coverage", "positions", "frequencies"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("translation")
    pairs = [line.split("\t") for line in FILE.read_text(encoding="utf-8").splitlines()]
    short = [f"{MARKUP} {' '.join(one.split()[:5])}\t{' '.join(other.split()[:5])}" for one, other in pairs]
    (folder / "pairs.tsv").write_text("\n".join(short), encoding="utf-8")
    recipe = Recipe(
        data=f"tsv:{folder / 'pairs.tsv'}", vocabulary=400, max_tokens=60, eps=(0.0, 0.1), seeds=2, epochs=1,
        batch_size=300, learning_rate=0.02, decode=5, beams=(1, 2), decode_temperatures=(0.8, 1.2),
    )  # fmt: skip
    with tiny_models():
        run_study(recipe, folder / "study", jobs=1)
    return load_study(folder / "study")


@pytest.fixture(scope="module")
def page(study):
    return write_report(study.folder).path


def figures(page):
    (data,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL
    )
    return json.loads(data)["sections"][0]["figures"]


def test_every_number_is_that_of_the_networks(study, page):
    found = figures(page)
    assert set(found) >= FIGURES
    beams = found["beams"]["constants"]
    assert [panel["title"] for panel in beams["panels"]] == ["BLEU", "chrF", "length ratio"]
    assert beams["ticks"] == [[1.0, "1"], [2.0, "2"]]
    for arm, trials in enumerate(study.arms().values()):
        for title, name in (("BLEU", "bleu"), ("chrF", "chrf"), ("length ratio", "length_ratio")):
            (one,) = (
                each
                for each in beams["estimates"]
                if (each["arm"], each["series"], each["at"]) == (arm, title, 2.0)
            )
            expected = estimate(Networks(trials)[f"test_beams_2.{name}"])
            assert one["mean"] == pytest.approx(expected.mean, rel=1e-6)
            assert one["half_width"] == pytest.approx(expected.half_width, rel=1e-5)
    temperatures = found["temperatures"]
    assert temperatures["constants"]["ticks"] == []
    assert {panel["title"] for panel in temperatures["constants"]["panels"]} == {
        "NLL (nats)",
        "ECE (%)",
        "BLEU",
    }
    rows = zip(*temperatures["columns"].values(), strict=False)
    assert len(list(rows)) > 0
    (nll,) = (
        each
        for each in temperatures["constants"]["estimates"]
        if (each["arm"], each["series"], each["at"]) == (1, "NLL (nats)", 1.0)
    )
    expected = estimate(Networks(study.arms()["uniform:0.1"])["test.nll"])
    assert (nll["mean"], nll["half_width"]) == pytest.approx((expected.mean, expected.half_width), rel=1e-4)
    assert found["coverage"]["constants"]["estimates"][-1]["at"] == 100


def test_differences_are_paired(study, page):
    arms = {name: Networks(trials) for name, trials in study.arms().items()}
    apart = estimate(arms["uniform:0.1"]["test_beams_2.chrf"] - arms["hard"]["test_beams_2.chrf"])
    html = page.read_text(encoding="utf-8")
    table = html.partition("Decoded sentences, minus those of hard labels")[2].partition("</table>")[0]
    assert show(apart, "chrf", unit=False) in table
    assert table.count("<tr") == 1 + 1 + 2  # a head, the name of an arm, and two widths
    head = re.findall(r'<th scope="col">(.*?)</th>', table)
    assert head == ["beams", "BLEU", "chrF", "length ratio"]


def test_what_was_decoded_stands_beside_the_nll(study, page):
    """In the terminal's table, the page's, the one for papers, the figure of scores and the verdict."""
    found = verdict(study)
    names = ["test_beams_2.bleu", "test_beams_2.chrf", "test_beams_2.length_ratio", "accuracy", "nll", "ece"]
    assert list(found.scores)[:6] == names
    hard = Networks(study.arms()["hard"])
    chrf = show(estimate(hard["test_beams_2.chrf"]), "chrf", unit=False)
    markdown = scores_table([(study, found)], "markdown").splitlines()
    titles = "| arm | BLEU | chrF | length ratio | teacher-forced token accuracy (%) | NLL (nats) |"
    assert markdown[0].startswith(titles)
    assert markdown[2].split(" | ")[2] == chrf
    assert markdown[3].startswith("| hard + temperature | – | – | – |")
    html = page.read_text(encoding="utf-8")
    assert f"<td>{chrf}</td>" in html.partition('<table class="arms">')[2].partition("</table>")[0]
    assert "BLEU, chrF and length ratio: beam search of 2." in html
    assert chrf in write_report(study.folder).text
    shown = figures(page)["scores"]["constants"]["metrics"]
    assert [metric["name"] for metric in shown[:6]] == names
    assert [metric["repairs"] for metric in shown[:6]] == [[""]] * 4 + [["", "temperature"]] * 2
    first = "BLEU (beam search of 2) is "
    told = [sentence.split(" is ")[0] + " is " for sentence in found.sentences]
    at = told.index(first)
    assert told[at + 1] == "chrF (beam search of 2) is "
    assert "Teacher-forced token accuracy is " in told[at + 2 :]


def test_what_was_done_is_said_in_words_of_sentences_and_tokens(study):
    told = paragraph(study)
    for words in (
        f"{study.data.num_classes} tokens in the vocabulary; SHA-256",
        "ε/K over all K tokens in the vocabulary.",
        "Temperatures were fitted on the validation sentences; all scores are of the test sentences.",
        "variance of seeds and test sentences",
        "paired by seeds and sentences.",
    ):
        assert words in told, words
    for word in ("classes", "test rows", "validation rows"):
        assert word not in told, word
    assert facts(study)["Rows"].startswith("target tokens")


def test_texts_are_side_by_side_and_text_only(study, page):
    html = page.read_text(encoding="utf-8")
    words = html.partition("Side by side")[2].partition("What the networks learned")[0]
    texts = TASK.texts(study.data, study.arms()["hard"][0].arrays)
    middle = np.argsort(texts.scores, kind="stable")[2]
    assert f"Of the {len(texts.scores)} sentences" in words
    assert words.count("<dt>source</dt>") == len(texts.scores)
    assert f"<dd>{escape(texts.references[middle])}</dd>" in words
    assert MARKUP in texts.sources[middle]
    assert "<img" not in html
    assert "&lt;img src=&#34;x&#34; onerror=&#34;alert(1)&#34;&gt; &amp; {{ 7*7 }} &lt;/script&gt;" in words
    assert html.count("<script") == 2


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_the_page_fits_and_has_nothing_to_complain_of(page):
    browser = Browser()
    try:
        for width, scheme in ((1300, "light"), (400, "dark")):
            browser.scheme(scheme)
            browser.size(width)
            browser.open(page.as_uri())
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert set(fitting_figures(browser, width)) >= FIGURES
            # no axis goes on where its number cannot
            numbers = browser.run(
                "[...document.querySelectorAll('[data-figure=beams] text')].map((text) => text.textContent)"
            )
            assert not [words for words in numbers if words.startswith("−")]
            links = "[...document.querySelectorAll('nav.contents a')]"
            assert browser.run(f"{links}.every((link) => document.querySelector(link.hash))")
            headings = browser.run(f"{links}.map((link) => link.textContent)")
            assert headings[0] == "Predictions on the test rows"
            assert headings[-1] == "Methods"
            assert complaints(browser) == []
    finally:
        browser.close()


def line(quantity, at, values, spread, seeds=3):
    """A number of several seeds, which all rows move alike but for a part of this size."""
    rows = spread * np.array([-1.0, 1.0] * 50)
    shift = spread * np.linspace(-1, 1, seeds) / 10
    return Line(
        arm=0,
        seeds=range(seeds),
        series=[
            Series(
                quantity=quantity,
                at=np.array(at),
                influences={
                    "test": np.stack([value + own + (1 + n) * rows for n, value in enumerate(values)])
                },
            )
            for own in shift
        ],
    )


@pytest.mark.parametrize(
    ("nll", "bleu", "says"),
    [
        ([3.0, 2.5, 2.8], [20.0, 24.0, 22.0], "NLL and BLEU are both best at T = 1."),
        (
            [3.0, 2.5, 2.8],
            [24.0, 20.0, 22.0],
            "the NLL is lowest at T = 1 and BLEU is highest at T = 0.8, where BLEU is higher by 4.00 ± 0.",
        ),
        ([3.0, 2.5, 2.8], [24.0, 20.0, 22.0], "is not the best for BLEU."),
        ([3.0, 2.5, 2.8], [24.0, 23.99, 22.0], "the study cannot tell whether they differ."),
        ([3.0, 2.5, 2.8], [20.0, 20.0, 20.0], "NLL and BLEU are both best at T = 1."),
    ],
)
def test_words_on_the_best_temperatures(nll, bleu, says):
    at = (0.8, 1.0, 1.2)
    words = _best_temperatures(line("nll", (0.6, *at), [9.0, *nll], 0.1), line("bleu", at, bleu, 0.5))
    assert says in words


def test_one_seed_and_few_temperatures_tell_nothing():
    at, nll, bleu = (0.8, 1.0), [3.0, 2.5], [24.0, 20.0]
    words = _best_temperatures(line("nll", at, nll, 0.1, seeds=1), line("bleu", at, bleu, 0.1, seeds=1))
    assert words.endswith("one seed leaves no interval, and cannot tell whether they differ.")
    words = _best_temperatures(line("nll", at, nll, 0.1), line("bleu", (0.8, 1.05), bleu, 0.1))
    assert words == "BLEU is known at too few temperatures to compare it with the NLL."
