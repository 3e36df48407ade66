"""From a stored study, or an audit, to one HTML page."""

from labelsmooth.report.audit_page import AuditReport, check_audit_folder, write_audit
from labelsmooth.report.page import Report, write_report
from labelsmooth.report.verdict import Arm, Estimate, Verdict, verdict

__all__ = [
    "Arm",
    "AuditReport",
    "Estimate",
    "Report",
    "Verdict",
    "check_audit_folder",
    "verdict",
    "write_audit",
    "write_report",
]
