"""Small words of a report."""

from __future__ import annotations

from collections.abc import Sequence


def listed(items: Sequence[str]) -> str:
    """One, two and three."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def counted(number: int, noun: str) -> str:
    """A number of things: 1 seed, 2 seeds."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
