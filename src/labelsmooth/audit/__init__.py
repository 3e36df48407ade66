"""Saved predictions of anyone's models, read from files larger than memory and evaluated."""

from labelsmooth.audit.document import to_json
from labelsmooth.audit.gate import Bound, exceeded
from labelsmooth.audit.runner import Audit, Model, Pair, run_audit
from labelsmooth.audit.settings import Settings

__all__ = ["Audit", "Bound", "Model", "Pair", "Settings", "exceeded", "run_audit", "to_json"]
