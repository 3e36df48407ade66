"""From a stored study to one HTML page."""

from labelsmooth.report.page import Report, write_report
from labelsmooth.report.verdict import Arm, Estimate, Verdict, verdict

__all__ = ["Arm", "Estimate", "Report", "Verdict", "verdict", "write_report"]
