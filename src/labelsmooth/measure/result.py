"""The base of all results of measures: plain numbers by name, for loggers and for a short repr."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cached_property

from labelsmooth.measure.catalogue import QUANTITIES


def number_names(kind: type) -> tuple[str, ...]:
    """The names of what a class of results holds as an int or a float, in the order of its text."""
    types = {field.name: field.type for field in fields(kind)} if is_dataclass(kind) else {}
    for name, member in vars(kind).items():
        if isinstance(member, cached_property):
            types[name] = member.func.__annotations__["return"]
    return tuple(name for name, of in types.items() if of in ("int", "float"))


class Result:
    """Numbers that a measure found."""

    def to_dict(self) -> dict[str, float]:
        """The plain numbers by name, as loggers want them: arrays and curves are left out."""
        return {name: getattr(self, name) for name in number_names(type(self))}

    def values(self) -> dict[str, float]:
        """The numbers that the catalogue knows, in its order."""
        numbers = self.to_dict()
        return {name: numbers[name] for name in QUANTITIES if name in numbers}

    def __repr__(self) -> str:
        numbers = (
            f"{name}={value if isinstance(value, int) else format(value, '.4g')}"
            for name, value in self.to_dict().items()
        )
        return f"{type(self).__name__}({', '.join(numbers)})"
