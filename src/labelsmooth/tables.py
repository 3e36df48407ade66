"""A table of words and numbers as aligned text, as Markdown, and as LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from textwrap import wrap

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "ε": r"$\varepsilon$",
    "β": r"$\beta$",
    "λ": r"$\lambda$",
    "α": r"$\alpha$",
    "γ": r"$\gamma$",
    "–": "--",
    "±": r"$\pm$",
    "−": "$-$",
    "²": "$^2$",
    "∞": r"$\infty$",
    "→": r"$\to$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\n": " ",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_TITLE = 16  # characters that a title of a column may have on a line, however short the numbers below
_MARKDOWN = {
    "\n": " ",
    "&": "&amp;",
    "<": "&lt;",
    **{character: f"\\{character}" for character in r"\`*_[]|"},
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells under a head.

    Attributes:
        head: the titles of the C columns.
        rows: of C cells each.
        words: how many of the first columns hold words, and stand to the left; numbers stand to the right.
        strong: the places of the rows that stand out.
        sections: titles by the place of the row that each begins at.
        section: what a section is.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    strong: Collection[int] = ()
    sections: Mapping[int, str] = field(default_factory=dict)
    section: str = ""

    def text(self) -> str:
        """Columns of equal width, without sections; long titles of numbers take several lines.

        Example:
            >>> print(Table(head=("model", "ECE (%)"), rows=[("linear", "3.1"), ("forest", "12.4")]).text())
            model   ECE (%)
            linear      3.1
            forest     12.4
        """
        lines = [*self._titles(), *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column < self.words else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def _titles(self) -> Sequence[Sequence[str]]:
        """The head as lines, the last of which stands above the cells."""
        widest = [max(map(len, column)) for column in zip(*self.rows, strict=True)] or [0] * len(self.head)
        titles = [
            [title]
            if place < self.words
            else wrap(title, max(width, _TITLE), break_long_words=False, break_on_hyphens=False)
            for place, (title, width) in enumerate(zip(self.head, widest, strict=True))
        ]
        above = zip_longest(*(reversed(lines) for lines in titles), fillvalue="")
        return [*above][::-1]

    def markdown(self) -> str:
        """A table of Markdown, with the section as a column; it ends in a newline.

        Example:
            >>> print(Table(head=("model", "ECE (%)"), rows=[("linear", "3.1")]).markdown(), end="")
            | model | ECE (%) |
            | --- | ---: |
            | linear | 3.1 |
        """
        sections = list(self._sections())
        column = [self.section] if self.sections else []
        numbers = len(self.head) - self.words
        lines = [[*column, *self.head], ["---"] * (len(column) + self.words) + ["---:"] * numbers]
        for at, row in enumerate(self.rows):
            cells = [_escaped(cell, _MARKDOWN) for cell in row]
            if at in self.strong:
                cells = [f"**{cell}**" for cell in cells]
            lines.append([*([_escaped(sections[at], _MARKDOWN)] if column else []), *cells])
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def latex(self) -> str:
        """A tabular of LaTeX for booktabs, with the sections between rules; it ends in a newline."""
        lines = [
            rf"\begin{{tabular}}{{{'l' * self.words}{'r' * (len(self.head) - self.words)}}}",
            r"\toprule",
            " & ".join(_escaped(cell, _LATEX) for cell in self.head) + r" \\",
        ]
        for at, row in enumerate(self.rows):
            if at == 0 or at in self.sections:
                lines.append(r"\midrule")
            if at in self.sections:
                title = rf"\textit{{{_escaped(self.sections[at], _LATEX)}}}"
                lines.append(rf"\multicolumn{{{len(self.head)}}}{{l}}{{{title}}} \\")
            cells = [_escaped(cell, _LATEX) for cell in row]
            if at in self.strong:
                cells = [rf"\textbf{{{cell}}}" for cell in cells]
            lines.append(" & ".join(cells) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def _sections(self) -> Iterator[str]:
        """The section of every row."""
        title = ""
        for at in range(len(self.rows)):
            title = self.sections.get(at, title)
            yield title


def _escaped(words: str, signs: Mapping[str, str]) -> str:
    return "".join(signs.get(character, character) for character in words)
