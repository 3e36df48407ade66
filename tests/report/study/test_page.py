"""The report of a real, small study in headless Chromium: what it shows, lets do and hands out."""

import json
import math
import re
import shutil
import xml.etree.ElementTree as ET
from statistics import fmean

import numpy as np
import pytest
import torch
from browser import CHROMIUM, Browser
from pages import complaints, fitting_figures, pressed, requests, table

import labelsmooth as ls
from labelsmooth.measure import Calibration
from labelsmooth.report import write_report
from labelsmooth.study import Recipe, load_study, run_study

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

NAMES = ["<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "{{ 7*7 }} & $\\frac$"]
FIGURES = {
    "scores",
    "reliability",
    "risk_coverage",
    "projection",
    "classes",
    "gap",
    "curves",
    "information",
    "distillation",
    "target",
    "loss",
    "gradient",
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    torch.set_num_threads(1)
    recipe = Recipe(
        data="digits",
        model="cnn",
        eps=(0.0, 0.2),
        also=("generalised:-3:0",),  # whose loss falls below 0
        seeds=2,
        epochs=2,
        shift=1,
        information=2,
        student="linear",
        temperatures=(1.0, 4.0),
    )
    folder = run_study(recipe, tmp_path_factory.mktemp("study")).folder
    stored = json.loads((folder / "study.json").read_text())
    stored["data"]["class_names"][:3] = NAMES
    (folder / "study.json").write_text(json.dumps(stored))
    return load_study(folder)


@pytest.fixture(scope="module")
def address(study):
    return write_report(study.folder).path.as_uri()


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def page(browser, address):
    browser.scheme("light")
    browser.size(1400)
    browser.open(address)
    return browser


def test_it_asks_for_nothing_and_has_nothing_to_complain_of(page, address, tmp_path):
    for scheme in ("dark", "light"):
        page.scheme(scheme)
    page.size(360)
    page.run("document.querySelectorAll('input[type=checkbox]').forEach(box => box.click())")
    page.run("document.querySelectorAll('input[type=checkbox]').forEach(box => box.click())")
    page.pdf(tmp_path / "printed.pdf")
    assert (tmp_path / "printed.pdf").read_bytes().startswith(b"%PDF")
    assert complaints(page) == []
    assert [url for url in requests(page) if not url.startswith("data:")] == [address]


def test_its_policy_stops_any_other_script_and_any_request(page):
    page.run("""
        document.body.append(Object.assign(document.createElement("script"), {textContent: "window.ran = 1"}));
        document.body.append(Object.assign(document.createElement("img"), {src: "http://127.0.0.1:9/x.png"}));
        fetch("http://127.0.0.1:9/").then(() => { window.ran = 2 }, () => { window.refused = true });
        new Promise(done => setTimeout(done, 100))
    """)
    assert page.run("window.ran === undefined && window.refused === true")
    assert len(complaints(page)) >= 2


@pytest.mark.parametrize("width", [360, 760, 1400])
def test_every_figure_fits_and_can_be_read(page, width):
    page.size(width)
    assert page.run("document.documentElement.scrollWidth") <= width
    assert set(fitting_figures(page, width)) == FIGURES


def test_names_from_data_are_text(page):
    assert page.run("document.querySelectorAll('script').length") == 2
    assert page.run("document.querySelectorAll('img').length") == 0
    words = page.run(
        "[...document.querySelectorAll('[data-figure=projection] text')].map(text => text.textContent)"
    )
    assert set(NAMES) <= set(words)
    caption = page.run("document.querySelector('[data-figure=projection] figcaption').textContent")
    assert ", ".join(NAMES) in caption


def test_every_control_is_reached_by_the_tab_key(page):
    controls = page.run("""
        window.controls = [...document.querySelectorAll("a[href], button, input, summary, [tabindex]")]
          .filter(control => control.checkVisibility());
        controls.length""")
    assert controls > 30
    page.run(
        "window.reached = new Set(); document.addEventListener('focusin', event => reached.add(event.target))"
    )
    for _ in range(controls + 2):
        page.key("Tab", 9)
    assert (
        page.run("controls.filter(control => !reached.has(control)).map(control => control.outerHTML)") == []
    )
    # and who is there can be seen
    page.run("document.querySelector('.actions button').focus()")
    page.key("Tab", 9)
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    unnamed = page.run("""
        controls.filter(control => !(control.getAttribute("aria-label") || control.textContent.trim()
          || control.labels?.[0]?.textContent.trim())).length""")
    assert unnamed == 0


def test_arrow_keys_and_the_pointer_tell_the_values(page, study):
    frame = "document.querySelector('[data-figure=gap] .chart')"
    page.run(f"{frame}.focus()")
    said = []
    for key, code in (("ArrowRight", 39), ("ArrowRight", 39), ("ArrowDown", 40), ("End", 35)):
        page.key(key, code)
        assert page.run(f"!{frame}.querySelector('.tip').hidden")
        said.append(page.run(f"{frame}.querySelector('.tip').textContent"))
    gap = study.trials[0].metrics["train"]["logit_gap"]
    assert said[0] == f"hard, seed 0training rows: {float(f'{gap:.4g}'):g} nats"
    assert "validation rows" in said[1]
    assert len(set(said)) == len(said)
    page.key("Escape", 27)
    assert page.run(f"{frame}.querySelector('.tip').hidden")
    page.run(f"{frame}.scrollIntoView()")
    x, y = (
        page.run(f"""(() => {{ const box = {frame}.querySelectorAll("circle, rect")[3].getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2] }})()""")
    )
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert "nats" in page.run(f"{frame}.querySelector('.tip').textContent")


def test_values_are_told_in_the_unit_of_their_quantity(page):
    frame = "document.querySelector('[data-figure=scores] .chart')"
    page.run(f"{frame}.focus()")
    page.key("Home", 36)
    assert re.search(
        r"accuracy \(%\): [\d.]+ %, seed 0$", page.run(f"{frame}.querySelector('.tip').textContent")
    )
    page.key("End", 35)  # the difference of two shares
    assert re.search(
        r"over-confidence \(points\): mean −?[\d.]+ ± [\d.]+ points$",
        page.run(f"{frame}.querySelector('.tip').textContent"),
    )


CONTRASTS = """
(() => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
  };
  const ratio = (one, other) => { const [low, high] = [light(one), light(other)].sort((a, b) => a - b); return (high + 0.05) / (low + 0.05) };
  const texts = [], marks = [];
  document.querySelectorAll("main *").forEach(element => {
    if (!element.checkVisibility()) return;
    const style = getComputedStyle(element);
    if ([...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) {
      const within = element.closest("text")?.previousElementSibling;
      const onBar = element.tagName === "text" && style.fill === getComputedStyle(document.body).backgroundColor;
      texts.push([ratio(parts(element.tagName === "text" ? style.fill : style.color),
        onBar ? parts(getComputedStyle(within).fill) : behind(element)), element.textContent.trim().slice(0, 40)]);
    }
    for (const paint of ["fill", "stroke"]) {
      const value = element.getAttribute(paint);
      if (value?.startsWith("var(--arm")) marks.push([ratio(parts(style[paint]), behind(element)), value]);
    }
  });
  return {texts, marks};
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrasts_are_those_of_wcag_aa(page, scheme):
    page.scheme(scheme)
    page.run("document.querySelectorAll('details').forEach(details => { details.open = true })")
    dark = page.run("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")
    found = page.run(CONTRASTS)
    assert len(found["texts"]) > 200
    assert [text for text in found["texts"] if text[0] < 4.5] == []
    assert len(found["marks"]) > 200
    assert [mark for mark in found["marks"] if mark[0] < 3] == []


def test_the_scheme_button_holds_for_this_page_only(page, address):
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.run(background)
    page.run("document.getElementById('scheme').click()")
    dark = page.run(background)
    assert dark != light
    assert page.run("document.getElementById('scheme').textContent") == "Light colours"
    assert page.run("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    page.open(address)
    assert page.run(background) == light


@pytest.mark.parametrize("figure", sorted(FIGURES))
def test_every_figure_is_saved_as_svg_and_csv(page, figure, tmp_path):
    page.scheme("dark")
    drawing = pressed(page, figure, "SVG", tmp_path)
    root = ET.parse(drawing).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = drawing.read_text(encoding="utf-8")
    assert "var(" not in text
    assert 'fill="#ffffff"' in text  # in light colours, whatever the page has
    assert root.find("{http://www.w3.org/2000/svg}title").text
    rows = table(pressed(page, figure, "CSV", tmp_path))
    assert rows
    assert all(None not in row and None not in row.values() for row in rows)


def test_the_numbers_of_the_figures_are_those_of_the_study(page, study, tmp_path):
    rows = table(pressed(page, "reliability", "CSV", tmp_path))
    (trial,) = (t for t in study.arms()["uniform:0.2"] if t.config.seed == 1)
    calibration = Calibration()
    logits = trial.arrays.test_logits.astype(np.float64) / trial.metrics["fitted"]["temperature"]
    calibration.update(logits, trial.arrays.test_labels)
    bins = calibration.compute().bins
    mine = [
        row
        for row in rows
        if (row["arm"], row["seed"], row["with_temperature"]) == ("smoothed ε = 0.2", "1", "1")
    ]
    filled = bins.count > 0
    assert [int(row["rows"]) for row in mine] == bins.count[filled].tolist()
    np.testing.assert_allclose([float(row["accuracy"]) for row in mine], bins.accuracy[filled], rtol=1e-6)
    np.testing.assert_allclose([float(row["confidence"]) for row in mine], bins.confidence[filled], rtol=1e-6)

    scores = table(pressed(page, "scores", "CSV", tmp_path))
    for trial in (trial for trials in study.arms().values() for trial in trials):
        name = ls_name(trial)
        (row,) = (
            r
            for r in scores
            if (r["arm"], r["seed"], r["repair"]) == (name, str(trial.config.seed), "temperature")
        )
        assert float(row["nll"]) == pytest.approx(trial.metrics["test_with_temperature"]["nll"], rel=1e-6)
        (row,) = (
            r
            for r in scores
            if (r["arm"], r["seed"], r["repair"]) == (name, str(trial.config.seed), "p-norm")
        )
        assert row["nll"] == ""
        assert float(row["aurc"]) == pytest.approx(trial.metrics["test_with_pnorm"]["aurc"], rel=1e-6)

    told = {
        (row["network"], row["arm"], row["seed"]): float(row["accuracy"])
        for row in table(pressed(page, "distillation", "CSV", tmp_path))
    }
    student = study.students(4.0)["uniform:0.2"][1]
    assert told["student, T = 4", "smoothed ε = 0.2", "1"] == pytest.approx(
        student.metrics["test"]["accuracy"], rel=1e-6
    )
    alone = study.students_alone()["hard"][0]
    assert told["student alone", "hard", "0"] == pytest.approx(alone.metrics["test"]["accuracy"], rel=1e-6)

    by_class = table(pressed(page, "classes", "CSV", tmp_path))
    trial = study.arms()["hard"][1]
    (row,) = (
        r for r in by_class if (r["arm"], r["seed"], r["class"]) == ("hard", "1", study.data.class_names[4])
    )
    own = torch.from_numpy(trial.arrays.test_logits[trial.arrays.test_labels == 4]).double()
    assert int(row["rows"]) == len(own)
    assert float(row["accuracy"]) == pytest.approx(float((own.argmax(-1) == 4).double().mean()), rel=1e-6)
    confidence = float(own.softmax(-1).amax(-1).mean())
    assert float(row["mean_confidence"]) == pytest.approx(confidence, rel=1e-6)

    known = table(pressed(page, "information", "CSV", tmp_path))
    curves = study.arms()["hard"][0].curves
    mine = [row for row in known if (row["arm"], row["seed"]) == ("hard", "0")]
    assert [int(row["epoch"]) for row in mine] == list(curves.information_epochs)
    np.testing.assert_allclose([float(row["information"]) for row in mine], curves.information, rtol=1e-6)


def ls_name(trial):
    return {
        "hard": "hard",
        "uniform:0.2": "smoothed ε = 0.2",
        "generalised:-3:0": "negative ε = −3, warm-up = 0",
    }[trial.config.objective]


def test_figures_follow_the_arms_and_seeds_that_are_chosen(page, tmp_path):
    boxes = "[...document.querySelectorAll('.chooser input')]"
    labels = page.run(f"{boxes}.map(box => box.parentElement.textContent)")
    assert labels == ["hard", "smoothed ε = 0.2", "negative ε = −3, warm-up = 0", "0", "1"]
    assert page.run(f"{boxes}.every(box => box.checked)")
    before = page.run("document.querySelectorAll('[data-figure=scores] .drawing circle').length")
    page.run(f"{boxes}[2].click(); {boxes}[3].click()")
    assert page.run("document.querySelectorAll('[data-figure=scores] .drawing circle').length") < before / 2
    assert (
        page.run("document.querySelector('.chooser summary span').textContent") == "2 of 3 arms, 1 of 2 seeds"
    )
    for figure in FIGURES - {"target", "loss", "gradient"}:
        rows = table(pressed(page, figure, "CSV", tmp_path))
        assert {row["arm"] for row in rows} == {"hard", "smoothed ε = 0.2"}
        assert {row["seed"] for row in rows} == {"1"}
    page.run(
        "[...document.querySelectorAll('.all button')].forEach(button => { if (button.textContent === 'none') button.click() })"
    )
    assert page.run("document.querySelectorAll('.nothing').length") == len(FIGURES) - 3
    page.run(
        "[...document.querySelectorAll('.all button')].forEach(button => { if (button.textContent === 'all') button.click() })"
    )
    assert page.run("document.querySelectorAll('.nothing').length") == 0
    assert complaints(page) == []


@pytest.mark.parametrize(
    ("eps", "num_classes"),
    [(0.1, 10), (0.05, 1000), (0.5, 2), (0.9, 3), (1.0, 7), (1e-6, 200_000), (0.0, 10)],
)
def test_the_explorer_agrees_with_theory_and_with_the_loss(page, eps, num_classes, tmp_path):
    for name, value in (("eps", eps), ("classes", num_classes)):
        page.run(f"""(() => {{ const field = document.querySelector("[name={name}]");
            field.value = "{value}"; field.dispatchEvent(new Event("input")) }})()""")
    (target,) = table(pressed(page, "target", "CSV", tmp_path))
    expected = ls.theory.target(eps, num_classes)
    assert float(target["on_class"]) == pytest.approx(expected.on_class, rel=1e-12)
    assert float(target["on_other"]) == pytest.approx(expected.on_other, rel=1e-12)
    assert int(target["num_others"]) == expected.num_others

    rows = table(pressed(page, "loss", "CSV", tmp_path))
    best = ls.theory.optimal_gap(eps, num_classes)
    optimum = [row for row in rows if row["optimum"] == "1"]
    if math.isinf(best):
        assert optimum == []
    else:
        assert float(optimum[0]["gap"]) == pytest.approx(best, rel=1e-12, abs=1e-12)
        assert float(optimum[0]["loss"]) == pytest.approx(
            ls.theory.entropy_floor(eps, num_classes), rel=1e-12
        )
        assert float(optimum[0]["confidence"]) == pytest.approx(
            ls.theory.optimum(eps, num_classes).on_class, rel=1e-12
        )
        assert float(optimum[0]["gradient"]) == pytest.approx(0, abs=1e-12)
    for row in rows[:: max(1, len(rows) // 12)]:
        for smoothing, loss_name, gradient_name in (
            (eps, "loss", "gradient"),
            (0.0, "hard_loss", "hard_gradient"),
        ):
            logits = torch.zeros(1, num_classes, dtype=torch.float64)
            logits[0, 0] = float(row["gap"])
            logits.requires_grad_()
            loss = ls.cross_entropy(logits, torch.tensor([0]), label_smoothing=smoothing)
            loss.backward()
            assert float(row[loss_name]) == pytest.approx(loss.item(), rel=1e-12)
            assert float(row[gradient_name]) == pytest.approx(logits.grad[0, 0].item(), rel=1e-12, abs=1e-14)
    said = {
        name: page.run(f"document.querySelector('[data-says={name}]').textContent")
        for name in ("gap", "floor", "perplexity")
    }
    assert said["gap"] == ("∞" if math.isinf(best) else f"{float(f'{best:.4g}'):g} nats")
    assert said["perplexity"] == f"{float(f'{ls.theory.perplexity_floor(eps, num_classes):.4g}'):g}"


def test_the_sliders_move_the_explorer(page):
    page.run("""(() => { const slider = document.querySelector("[name=eps-slider]");
        slider.value = "0.3"; slider.dispatchEvent(new Event("input")) })()""")
    assert page.run("document.querySelector('[name=eps]').value") == "0.3"
    assert page.run("document.querySelector('[data-says=confidence]').textContent") == "0.73"
    page.run("""(() => { const slider = document.querySelector("[name=classes-slider]");
        slider.value = "1"; slider.dispatchEvent(new Event("input")) })()""")
    assert page.run("document.querySelector('[name=classes]').value") == "200000"
    assert "199,999 others" in page.run("document.querySelector('[data-figure=target] svg').textContent")


def test_on_paper_it_is_light_and_shows_figures_but_no_controls(page):
    page.run("document.getElementById('scheme').click()")
    width = "Number(document.querySelector('[data-figure=curves] svg').getAttribute('width'))"
    before = page.run(width)
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run(width) < 700
    page.send("Emulation.setEmulatedMedia", media="print")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert (
        page.run(
            "[...document.querySelectorAll('button, input, summary')].filter(one => one.checkVisibility()).length"
        )
        == 0
    )
    assert page.run("[...document.querySelectorAll('svg.drawing')].every(one => one.checkVisibility())")
    page.send("Emulation.setEmulatedMedia", media="")
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run(width) == before


def test_texts_are_copied(page):
    page.send("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    for button in ("markdown-0", "latex-0", "methods-0"):
        page.run(
            f"document.querySelector('[data-copies={button}]').closest('details')?.setAttribute('open', '')"
        )
        page.run(f"document.querySelector('[data-copies={button}]').click()")
        page.run("new Promise(done => setTimeout(done, 50))")
        copied = page.run("navigator.clipboard.readText()")
        assert copied == page.run(f"document.getElementById('{button}').textContent")
        assert len(copied) > 300


def test_without_javascript_the_verdict_and_the_tables_are_there(browser, address, study):
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.send("Page.navigate", url=address)
        browser.wait_for("Page.loadEventFired")
        tree = browser.send("DOM.getDocument", depth=-1)["root"]
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
    words = []

    def gather(node):
        if node["nodeName"] not in ("SCRIPT", "STYLE"):
            words.append(node.get("nodeValue", ""))
            for child in node.get("children", []):
                gather(child)

    gather(tree)
    text = " ".join(" ".join(words).split())
    assert write_report(study.folder).verdict.headline in text
    assert "it needs JavaScript" in text
    assert "smoothed ε = 0.2" in text


def test_several_studies_share_a_page(browser, study, tmp_path):
    other = shutil.copytree(study.folder, tmp_path / "other")
    report = write_report(study.folder, other, out=tmp_path / "joined")
    browser.size(360)
    browser.open(report.path.as_uri())
    assert browser.run("document.querySelectorAll('svg.drawing').length") == 2 * (len(FIGURES) - 3) + 1 + 3
    assert browser.run("document.documentElement.scrollWidth") <= 360
    ids = browser.run("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
    assert complaints(browser) == []
    assert {"differences"} | FIGURES == set(fitting_figures(browser, 360))
    rows = table(pressed(browser, "differences", "CSV", tmp_path / "saved"))
    assert len({row["study"] for row in rows}) == 2
    hard, smoothed = (
        fmean(trial.metrics[part]["nll"] for trial in study.arms()[arm])
        for part, arm in (("test", "hard"), ("test_with_temperature", "uniform:0.2"))
    )
    apart = [
        float(row["difference"])
        for row in rows
        if (row["arm"], row["repair"], row["metric"]) == ("smoothed ε = 0.2", "temperature", "nll")
    ]
    assert apart == [pytest.approx(smoothed - hard, rel=1e-5)] * 2
    assert all(float(row["half_width"]) > 0 for row in rows)
    # a choice in one study leaves the other alone
    browser.run("document.querySelector('#study-1 .chooser input').click()")
    counts = browser.run(
        "[0, 1].map(at => document.querySelectorAll(`#study-${at} [data-figure=scores] circle`).length)"
    )
    assert counts[1] < counts[0]
