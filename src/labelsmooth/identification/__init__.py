"""Which loss is this: its convention of label smoothing, its ε, and what is wrong with it."""

from labelsmooth.identification.identify import identify
from labelsmooth.identification.result import Departure, Identification

__all__ = ["Departure", "Identification", "identify"]
