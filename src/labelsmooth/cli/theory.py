"""`labelsmooth theory`: the closed forms for one ε and K, as a table and as the gap-against-ε figure."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from labelsmooth import theory
from labelsmooth.cli.options import check_file
from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.files import write_whole
from labelsmooth.tables import Table

HELP = "print what a given smoothing and number of classes ask of the logits"
DESCRIPTION = (
    "Print the closed forms of label smoothing for one eps and one number of classes: the target, the "
    "optimal logit gap, the confidence and the smallest loss and perplexity a network can reach, side by "
    "side for several conventions. For example: labelsmooth theory --classes 1000 --plot gap.png"
)

_SUFFIXES = (".png", ".svg", ".pdf")
_MOST_CLASSES = 2**53  # up to which a float64 is a whole number
_DECADES = (10, 100, 1000, 10_000)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to compute, and where to draw it.

    Raises:
        TypeError, ValueError: as `theory.target`; or no picture can be written to `plot`.
    """

    classes: int = field(metadata={"help": "number of classes K, at least 2", "metavar": "K"})
    smoothing: float = field(
        default=0.1, metadata={"help": "eps in [0, 1], as each convention takes it", "metavar": "EPS"}
    )
    convention: tuple[str, ...] = field(
        default=("uniform", "others"),
        metadata={
            "help": "uniform (1-eps+eps/K on the class), others (1-eps), or implementations by name such as "
            "torch, fairseq or opennmt",
            "metavar": "NAME",
        },
    )
    plot: Path | None = field(
        default=None,
        metadata={
            "help": "draw the optimal gap against eps into this .png, .svg or .pdf file",
            "metavar": "FILE",
        },
    )

    def __post_init__(self) -> None:
        if self.classes > _MOST_CLASSES:
            raise InputError(f"there must be at most {_MOST_CLASSES:,} classes, got {self.classes:,}")
        for convention in self.convention:
            theory.target(self.smoothing, self.classes, convention)
        if self.plot is not None:
            if self.plot.suffix.lower() not in _SUFFIXES:
                raise InputError(f"plot must end in {', '.join(_SUFFIXES)}, got {str(self.plot)!r}")
            check_file("plot", self.plot)


def run(options: Options) -> None:
    print(table(options))
    if options.plot is not None:
        _draw(options, options.plot)
        print(f"\n{options.plot}")


def table(options: Options) -> str:
    """The closed forms: one row for each quantity with its unit, one column for each convention."""
    eps, k = options.smoothing, options.classes
    quantities: list[tuple[str, str, Callable[[str], float]]] = [
        ("target on the class", "probability", lambda name: theory.target(eps, k, name).on_class),
        ("target on each other class", "probability", lambda name: theory.target(eps, k, name).on_other),
        ("sum of the target", "probability", lambda name: theory.target(eps, k, name).mass),
        ("optimal logit gap", "nats", lambda name: theory.optimal_gap(eps, k, name)),
        ("confidence at the optimum", "probability", lambda name: theory.optimum(eps, k, name).on_class),
        ("smallest loss", "nats per row", lambda name: theory.entropy_floor(eps, k, name)),
        ("smallest perplexity, exp(loss)", "choices", lambda name: theory.perplexity_floor(eps, k, name)),
        ("... of the true labels, there", "choices", lambda name: theory.label_perplexity(eps, k, name)),
        ("weight of H(u,p) beside H(q,p)", "ratio", lambda name: theory.relative_weight(eps, k, name)),
        ("same target as uniform at", "eps", lambda name: theory.convert(eps, k, name, "uniform")),
        ("same target as others at", "eps", lambda name: theory.convert(eps, k, name, "others")),
    ]
    rows = [
        [quantity, unit, *(_shown(value, name) for name in options.convention)]
        for quantity, unit, value in quantities
    ]
    return (
        f"label smoothing, eps = {eps:g}, K = {k} classes\n\n"
        + Table(head=("", "unit", *options.convention), rows=rows, words=2).text()
    )


def _shown(value: Callable[[str], float], convention: str) -> str:
    try:
        return f"{value(convention):.6g}"
    except InputError:
        return "none"  # no eps of the other convention has this target


def _draw(options: Options, path: Path) -> None:
    """Draw a panel for each convention."""
    with needs_extra("study"):
        from matplotlib.figure import Figure

    from labelsmooth.plot import plot_gap

    # round numbers for comparison, unless the line would run into that of K itself
    others = [decade for decade in _DECADES if abs(math.log10(decade / options.classes)) > 0.5]
    figure = Figure(figsize=(5.2 * len(options.convention), 3.9), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(options.convention), squeeze=False, sharey=True)[0]
    for panel, convention in zip(panels, options.convention, strict=True):
        curves = theory.gap_curves([*others, options.classes], convention, options.smoothing)
        plot_gap(curves, panel)
        panel.label_outer()
    stream = io.BytesIO()
    figure.savefig(stream, format=path.suffix[1:].lower())
    write_whole(path, stream.getvalue())
