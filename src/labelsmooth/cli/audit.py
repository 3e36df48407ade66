"""`labelsmooth audit`: measure saved predictions of one model or of several, and write a report."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path

from labelsmooth.audit import Settings, run_audit
from labelsmooth.extras import needs_extra
from labelsmooth.report import check_audit_folder, write_audit

HELP = "measure saved predictions of your own models and write a report"
DESCRIPTION = (
    "Measure saved predictions, logits or probabilities with labels: accuracy, calibration, temperature, "
    "selective prediction and what the logits say of label smoothing, all with 95 % intervals, and the "
    "differences between models on the same rows. Files may be larger than memory. A table has a column for "
    "each class, such as prob_0, prob_1, ... or prob_cat, prob_dog, ..., and a column label. For example: "
    "labelsmooth audit a.npz b.npz --validation va.npz vb.npz, labelsmooth audit rows.csv, or "
    "labelsmooth audit probs.npy --labels labels.npy"
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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_audit_folder(self.out)


def run(options: Options) -> None:
    settings = Settings(**{setting.name: getattr(options, setting.name) for setting in fields(Settings)})
    with needs_extra("audit"):  # now, and not after the measuring
        for package in ("jinja2", "tqdm"):
            import_module(package)
    report = write_audit(run_audit(settings), options.out)
    print(report.text)
    print(report.path)
