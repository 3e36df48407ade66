"""The table of scores as text for a paper: Markdown, or LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from labelsmooth.errors import InputError
from labelsmooth.report.estimate import show
from labelsmooth.report.methods import study_names
from labelsmooth.report.verdict import SCORES, Arm, Verdict
from labelsmooth.study import Study

TABLE_FORMATS = ("markdown", "latex")

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "ε": r"$\varepsilon$",
    "β": r"$\beta$",
    "λ": r"$\lambda$",
    "α": r"$\alpha$",
    "–": "--",
    "±": r"$\pm$",
    "−": "$-$",
    "→": r"$\to$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\n": " ",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_MARKDOWN = {
    "\n": " ",
    "&": "&amp;",
    "<": "&lt;",
    **{character: f"\\{character}" for character in r"\`*_[]|"},
}


def scores_table(studies: Sequence[tuple[Study, Verdict]], style: str) -> str:
    """The test scores of every arm, mean ± 95 % interval over seeds and rows, recommended arms in bold.

    Args:
        studies: with their verdicts, at least one.
        style: "markdown" or "latex"; the latter needs the package booktabs.

    Returns:
        Text that ends in a newline.

    Raises:
        ValueError: `style` is neither.
    """
    if style not in TABLE_FORMATS:
        raise InputError(f"a table must be one of {', '.join(TABLE_FORMATS)}, got {style!r}")
    return (_markdown if style == "markdown" else _latex)(studies)


def _markdown(studies: Sequence[tuple[Study, Verdict]]) -> str:
    joined = len(studies) > 1
    head = [*(["study"] if joined else []), "arm", *(title for _, title in SCORES)]
    lines = [head, ["---"] * (2 if joined else 1) + ["---:"] * len(SCORES)]
    for name, (_, found) in zip(_names(studies), studies, strict=True):
        for arm in found.arms:
            words = [_escaped(cell, _MARKDOWN) for cell in _cells(arm)]
            if arm == found.recommended:
                words = [f"**{word}**" for word in words]
            lines.append([*([_escaped(name, _MARKDOWN)] if joined else []), *words])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _latex(studies: Sequence[tuple[Study, Verdict]]) -> str:
    lines = [
        r"\begin{tabular}{l" + "r" * len(SCORES) + "}",
        r"\toprule",
        " & ".join(["arm", *(_escaped(title, _LATEX) for _, title in SCORES)]) + r" \\",
    ]
    for name, (_, found) in zip(_names(studies), studies, strict=True):
        lines.append(r"\midrule")
        if len(studies) > 1:
            words = rf"\textit{{{_escaped(name, _LATEX)}}}"
            lines.append(rf"\multicolumn{{{1 + len(SCORES)}}}{{l}}{{{words}}} \\")
        for arm in found.arms:
            cells = [
                _escaped(cell.replace("-", "−") if at else cell, _LATEX)
                for at, cell in enumerate(_cells(arm))
            ]
            if arm == found.recommended:
                cells = [rf"\textbf{{{cell}}}" for cell in cells]
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _names(studies: Sequence[tuple[Study, Verdict]]) -> list[str]:
    return study_names([study for study, _ in studies])


def _cells(arm: Arm) -> list[str]:
    return [arm.name, *(show(arm.estimate(metric), metric, unit=False) for metric, _ in SCORES)]


def _escaped(words: str, signs: dict[str, str]) -> str:
    return "".join(signs.get(character, character) for character in words)
