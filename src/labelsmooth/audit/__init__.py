"""Saved predictions of anyone's models, read from files larger than memory and evaluated."""

from labelsmooth.audit.document import to_json
from labelsmooth.audit.gate import BOUNDED, Bound, check_bounds
from labelsmooth.audit.runner import Audit, Model, Pair, run_audit
from labelsmooth.audit.settings import Settings

__all__ = ["BOUNDED", "Audit", "Bound", "Model", "Pair", "Settings", "check_bounds", "run_audit", "to_json"]
