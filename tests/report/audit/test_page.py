"""The report of an audit in headless Chromium: what it shows, lets do and hands out."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from pages import complaints, fitting_figures, pressed, requests, table

from labelsmooth.audit import Settings, run_audit
from labelsmooth.measure import Calibration
from labelsmooth.report import write_audit

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

FIGURES = ["reliability", "risk_coverage", "logit_gaps", "projection"]
LONG, ODD = "a" * 60, "<b>x$y_{2}$"


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    """Two models with long and odd names, and one with fewer rows."""
    folder = tmp_path_factory.mktemp("audit")
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=300)
    weight = rng.normal(size=(4, 6))
    for name, rows in ((LONG, 300), (ODD, 300), ("fewer", 200)):
        features = (3 * weight[labels] + 4 * rng.normal(size=(300, 6)))[:rows]
        np.savez(
            folder / f"{name}.npz",
            logits=features @ weight.T,
            labels=labels[:rows],
            features=features,
            classifier_weight=weight,
            groups=np.where(np.arange(rows) % 2, "<i>odd", "even"),
        )
    files = tuple(folder / f"{name}.npz" for name in (LONG, ODD, "fewer"))
    found = run_audit(Settings(files=files))
    return found, write_audit(found, folder / "out")


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def page(browser, audit):
    browser.size(1200)
    browser.scheme("light")
    browser.open(audit[1].path.as_uri())
    return browser


def test_it_asks_for_nothing_and_has_nothing_to_complain_of(page, audit):
    page.scheme("dark")
    page.size(360)
    page.run("document.querySelectorAll('input[type=checkbox]').forEach(box => box.click())")
    assert page.run("document.querySelector('.nothing').textContent") == "Choose at least one model."
    page.run("document.querySelectorAll('input[type=checkbox]').forEach(box => box.click())")
    assert complaints(page) == []
    assert [url for url in requests(page) if not url.startswith("data:")] == [audit[1].path.as_uri()]


@pytest.mark.parametrize("width", [360, 1400])
def test_every_figure_fits_and_can_be_read(page, width):
    page.size(width)
    assert page.run("document.documentElement.scrollWidth") <= width
    assert fitting_figures(page, width) == FIGURES


def test_names_from_files_are_text(page):
    assert page.run("document.querySelectorAll('script').length") == 2
    assert page.run("document.querySelectorAll('img').length") == 0
    words = page.run("[...document.querySelectorAll('[data-figure] text')].map(text => text.textContent)")
    assert ODD in words
    cells = page.run("[...document.querySelectorAll('tbody th')].map(cell => cell.textContent)")
    assert "<i>odd" in cells


def test_a_table_that_is_wider_than_the_page_says_so(page):
    hint = """[...document.querySelectorAll('.scroll')].map(box =>
        [box.scrollWidth > box.clientWidth + 1, getComputedStyle(box, '::before').content.includes('scroll')])"""
    page.size(360)
    assert page.run(hint).count([True, True]) >= 3
    assert all(wide == says for wide, says in page.run(hint))


def test_what_is_chosen_is_shown(page):
    assert page.run("document.querySelector('.chooser summary span').textContent") == "3 of 3 models"
    titles = "[...document.querySelectorAll('[data-figure=reliability] text')].map(text => text.textContent)"
    assert "fewer" in page.run(titles)
    page.run("document.querySelectorAll('.chooser input')[2].click()")
    assert "fewer" not in page.run(titles)


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_saved_as_svg_and_csv(page, figure, tmp_path):
    drawing = pressed(page, figure, "SVG", tmp_path)
    assert ET.parse(drawing).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in drawing.read_text(encoding="utf-8")
    rows = table(pressed(page, figure, "CSV", tmp_path))
    assert {row["model"] for row in rows} == {LONG, ODD, "fewer"}
    assert "seed" not in rows[0]


def test_the_numbers_of_the_figures_are_those_of_the_rows(page, audit, tmp_path):
    """Of the rows that nothing was fitted on, at the temperature."""
    model = audit[0].models[1]
    rows = table(pressed(page, "reliability", "CSV", tmp_path))
    found = [row for row in rows if (row["model"], row["with_temperature"]) == (ODD, "1")]
    stored = np.load(model.path)
    drawn = np.random.default_rng(int.from_bytes(b"labelsmooth audit: rows to fit on")).random(300) < 0.2
    calibration = Calibration()
    logits = stored["logits"][~drawn] / model.evaluation.temperature
    calibration.update(logits, stored["labels"][~drawn])
    bins = calibration.compute().bins
    filled = bins.count > 0
    assert [int(row["rows"]) for row in found] == bins.count[filled].tolist()
    np.testing.assert_allclose([float(row["accuracy"]) for row in found], bins.accuracy[filled], rtol=1e-6)


def test_the_tip_says_what_is_under_the_arrow_keys(page):
    frame = "document.querySelector('[data-figure=logit_gaps] .chart')"
    page.run(f"{frame}.focus()")
    page.key("ArrowRight", 39)
    assert "rows, gap" in page.run(f"{frame}.querySelector('.tip').textContent")


def test_why_models_are_not_compared_is_said_on_the_page_and_in_the_text(page, audit):
    note = f"fewer and {LONG} cannot be compared row by row: they have 200 and 300 rows."
    assert note in page.run("document.querySelector('.verdict').textContent")
    assert note in " ".join(audit[1].text.split())


def test_the_text_has_the_groups_and_the_differences(audit):
    _, report = audit
    lines = report.text.splitlines()
    assert any(line.startswith(f"groups of {ODD}") for line in lines)
    assert any(line.startswith("<i>odd") for line in lines)
    assert any(line.startswith("over-confidence (points)") for line in lines)
    (head,) = (line for line in lines if line.startswith(f"{ODD} minus {LONG}, on the same rows"))
    assert head.endswith("with the temperature of each")
