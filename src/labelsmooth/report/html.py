"""Filling the templates of pages."""

from __future__ import annotations

import base64
from typing import Any


def render(template: str, /, **values: Any) -> str:
    """A page of this package's templates; what stands in the values is text, never markup.

    Raises:
        ImportError: jinja2 is missing; `labelsmooth[study]` brings it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("labelsmooth.report", "."), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(template).render(**values)


def data_uri(svg: str) -> str:
    """A picture for the page that holds it."""
    # as images, so that nothing in one picture can reach another or the page
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
