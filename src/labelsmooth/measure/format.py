"""Numbers as they are written: in their unit, with the digits that their uncertainty justifies."""

from __future__ import annotations

import math

from labelsmooth.measure.catalogue import QUANTITIES, Quantity
from labelsmooth.measure.interval import Interval

NOTHING = "–"

# decimals of a number of unknown uncertainty: two of a percentage, else four digits and at most four decimals
_PERCENT_DECIMALS, _DIGITS, _MOST_DECIMALS = 2, 4, 4
_MOST_OF_INTERVAL = 6  # decimals where there is an uncertainty
# from here on a number is written with its power of ten: those of networks that broke down
_LARGE = 1e6


def show(
    quantity: Quantity | str,
    value: float | Interval,
    half_width: float = math.nan,
    *,
    unit: bool = True,
) -> str:
    """A value of a quantity as text, with its interval or half-width where it has one.

    An uncertainty is written with two digits, and the value with as many decimals. Without one a share has
    two decimals of a percent, a count none, and any other number four digits. No value, nan, is "–". An
    uncertainty too small for any of its digits to be shown, as of numbers that do not vary, is left out.

    Args:
        quantity: of the catalogue, or its name.
        value: a number, or one with its interval; ends that are nan are left out, as are those of an infinite
            value.
        half_width: of the interval around the value; nan for none.
        unit: whether to write "%", "points" or "nats" after the value.

    Raises:
        KeyError: the catalogue has no such quantity.

    Example:
        >>> show("accuracy", 0.93104), show("nll", 0.2), show("rows", 12345)
        ('93.10 %', '0.2000 nats', '12,345')
        >>> show("over_confidence", -0.0123, 0.0045), show("nll", math.nan), show("nll", math.inf, unit=False)
        ('−1.23 ± 0.45 points', '–', '∞')
        >>> show("ece", Interval(value=0.0312, low=0.0254, high=0.0381))
        '3.12 % (2.54 to 3.81)'
    """
    if isinstance(quantity, str):
        quantity = QUANTITIES[quantity]
    if isinstance(value, Interval):
        return _with_interval(quantity, value, unit)
    smallest = 0.5 * 10.0**-_MOST_OF_INTERVAL / _factor(quantity)
    if not math.isfinite(value) or half_width < smallest:
        half_width = math.nan
    decimals = _decimals(quantity, value, half_width)
    shown = number(quantity, value, decimals)
    if not math.isnan(half_width):
        shown += f" ± {number(quantity, half_width, decimals)}"
    return shown + _unit(quantity, value, unit)


def number(quantity: Quantity, value: float, decimals: int) -> str:
    """The value alone with so many decimals, in the unit of its quantity; large ones by a power of ten."""
    if math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    scaled = _factor(quantity) * value
    large = abs(scaled) >= _LARGE and quantity.unit != "count"
    return (f"{scaled:.2e}" if large else f"{scaled:z,.{decimals}f}").replace("-", "−")


def _with_interval(quantity: Quantity, interval: Interval, unit: bool) -> str:
    value, low, high = interval.value, interval.low, interval.high
    told = math.isfinite(value) and not math.isnan(low) and not math.isnan(high)
    decimals = _decimals(quantity, value, (high - low) / 2 if told else math.nan)
    shown = number(quantity, value, decimals) + _unit(quantity, value, unit)
    if not told:
        return shown
    return f"{shown} ({number(quantity, low, decimals)} to {number(quantity, high, decimals)})"


def _decimals(quantity: Quantity, value: float, half_width: float) -> int:
    if quantity.unit == "count":
        return 0
    scale = _factor(quantity)
    if math.isfinite(half_width) and half_width > 0:
        return min(max(0, 1 - _exponent(scale * half_width)), _MOST_OF_INTERVAL)
    if _factor(quantity) == 100:
        return _PERCENT_DECIMALS
    if not math.isfinite(value) or value == 0:
        return _MOST_DECIMALS
    return min(max(0, _DIGITS - 1 - _exponent(value)), _MOST_DECIMALS)


def _exponent(value: float) -> int:
    """The power of ten of the first digit that two digits of the number round to: 0.0999 has that of 0.10."""
    return int(f"{abs(value):.1e}".partition("e")[2])


def _factor(quantity: Quantity) -> int:
    return 100 if quantity.unit in ("share", "points") else 1


def _unit(quantity: Quantity, value: float, unit: bool) -> str:
    if not unit or math.isnan(value):
        return ""
    return {"share": " %", "points": " points", "nats": " nats"}.get(quantity.unit, "")
