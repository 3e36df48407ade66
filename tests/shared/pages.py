"""What the tests of the pages of studies and audits ask of a page in a browser."""

from __future__ import annotations

import csv


def complaints(browser):
    kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    return [event for event in browser.events if event.get("method") in kinds]


def requests(browser):
    sent = [event for event in browser.events if event.get("method") == "Network.requestWillBeSent"]
    return [event["params"]["request"]["url"] for event in sent]


def fitting_figures(page, width):
    """The names of the figures of a page, each of which fits and can be read."""
    found = page.run("""
        [...document.querySelectorAll("[data-figure]")].map(figure => {
          const drawing = figure.querySelector("svg.drawing"), box = drawing.getBoundingClientRect();
          const words = [...drawing.querySelectorAll("text")];
          const marks = [...drawing.querySelectorAll("text, path, line, rect, circle:not(.ring)")];
          return {
            name: figure.dataset.figure,
            frame: Math.floor(figure.querySelector(".chart").getBoundingClientRect().width),
            width: Number(drawing.getAttribute("width")),
            height: Number(drawing.getAttribute("height")),
            box: [box.width, box.height],
            sizes: [...new Set(words.map(word => parseFloat(getComputedStyle(word).fontSize)))],
            out: marks.filter(mark => !mark.closest("[clip-path], clipPath")).filter(mark => {
              const own = mark.getBoundingClientRect();
              return own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1;
            }).map(mark => mark.textContent || mark.outerHTML),
            marks: drawing.querySelectorAll("circle, rect, path").length,
            label: drawing.getAttribute("aria-label"),
          };
        })""")
    for figure in found:
        assert figure["width"] == figure["frame"] <= width
        assert figure["box"] == [figure["width"], figure["height"]]  # nothing is scaled
        assert min(figure["sizes"]) >= 12
        assert (figure["name"], figure["out"]) == (figure["name"], [])
        assert figure["marks"] > 2
        assert len(figure["label"]) > 20
    return [figure["name"] for figure in found]


def table(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def pressed(page, figure, button, folder):
    which = ["SVG", "CSV"].index(button)
    return page.download(
        f"document.querySelectorAll('[data-figure={figure}] .actions button')[{which}].click()", folder
    )
