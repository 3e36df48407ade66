"""`labelsmooth audit`: measure saved predictions of one model or of several, and write a report."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path

from labelsmooth.audit import BOUNDED, Bound, Settings, check_bounds, run_audit
from labelsmooth.extras import needs_extra
from labelsmooth.report import check_audit_folder, write_audit

HELP = "measure saved predictions of your own models and write a report"
DESCRIPTION = (
    "Measure saved predictions, logits or probabilities with labels: accuracy, calibration, temperature, "
    "selective prediction and what the logits say of label smoothing, all with 95 % intervals, and the "
    "differences between models on the same rows. Files may be larger than memory. A table has a column for "
    "each class, such as prob_0, prob_1, ... or prob_cat, prob_dog, ..., and a column label. For example: "
    "labelsmooth audit a.npz b.npz --validation va.npz vb.npz, labelsmooth audit rows.csv --max ece=0.05, "
    "labelsmooth audit probs.npy --labels labels.npy, or for language models labelsmooth audit --lm-eval "
    "results/base results/tuned"
)


@dataclass(frozen=True, kw_only=True)
class Options(Settings):
    """What to audit, and where the result goes.

    Raises:
        ValueError: as `Settings`; or no report can be written to `out`.
    """

    out: Path = field(
        default=Path("runs/audit"),
        metadata={"help": "folder for report.html and metrics.json", "metavar": "DIR"},
    )
    max: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "exit 1 where this number of all rows of a model, named and in the units as in "
            "metrics.json, is above VALUE, as with --max ece=0.05; several may be given. METRIC is one of "
            f"{', '.join(BOUNDED)}, or another of the last layer or the logits. The number itself counts, "
            "not its interval: few rows have a high ECE by chance alone, and a bound of ece_ratio, the ECE "
            "over that, allows for it",
            "metavar": "METRIC=VALUE",
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for bound in self.max:
            Bound.parse(bound)
        check_audit_folder(self.out)


def run(options: Options) -> int:
    settings = Settings(**{setting.name: getattr(options, setting.name) for setting in fields(Settings)})
    with needs_extra("audit"):  # now, and not after the measuring
        for package in ("jinja2", "tqdm"):
            import_module(package)
    audit = run_audit(settings)
    report = write_audit(audit, options.out)
    print(report.text)
    print(report.path)
    checks = check_bounds(audit, map(Bound.parse, options.max))
    for check in checks:
        print(f"labelsmooth: {check.sentence}", file=sys.stderr)
    return int(not all(check.kept for check in checks))
