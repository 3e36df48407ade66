"""From a stored study, or an audit, to one HTML page."""

from labelsmooth.report.audit.page import AuditReport, check_audit_folder, write_audit
from labelsmooth.report.study.arms import Arm
from labelsmooth.report.study.estimate import Estimate
from labelsmooth.report.study.page import Report, check_folders, report_folder, write_report
from labelsmooth.report.study.table import TABLE_FORMATS, scores_table
from labelsmooth.report.study.verdict import Verdict, verdict

__all__ = [
    "TABLE_FORMATS",
    "Arm",
    "AuditReport",
    "Estimate",
    "Report",
    "Verdict",
    "check_audit_folder",
    "check_folders",
    "report_folder",
    "scores_table",
    "verdict",
    "write_audit",
    "write_report",
]
