"""Saved predictions of anyone's models, read from files larger than memory and measured."""

from labelsmooth.audit.document import to_json
from labelsmooth.audit.measures import Histogram, Measured, Pair
from labelsmooth.audit.runner import Audit, run_audit
from labelsmooth.audit.settings import Settings

__all__ = ["Audit", "Histogram", "Measured", "Pair", "Settings", "run_audit", "to_json"]
