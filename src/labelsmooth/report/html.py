"""Filling the templates of pages."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from labelsmooth.extras import needs_extra


def render(
    template: str, /, *, styles: Sequence[str] = (), scripts: Sequence[str] = (), **values: Any
) -> str:
    """A page of this package's templates; what stands in the values is text, never markup.

    Styles and scripts, files of this package, go into the page itself. Its security policy names them by
    their hashes and forbids everything else: a browser that keeps it runs no other script and asks for no
    address, whatever a name from data does to the page.

    Raises:
        ImportError: jinja2 is missing; the extras `study` and `audit` bring it.
    """
    with needs_extra("study", "audit"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("labelsmooth.report", "."), autoescape=True, undefined=StrictUndefined
    )
    style, script = _joined(["base.css", *styles]), _joined(scripts)
    policy = [
        "default-src 'none'",
        "img-src data:",
        f"style-src '{_hash(style)}'",
        f"script-src '{_hash(script)}'" if script else "script-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return environment.get_template(template).render(
        style=Markup(style), script=Markup(script), policy="; ".join(policy), **values
    )


def data_uri(svg: str) -> str:
    """A picture for the page that holds it."""
    # as images, so that nothing in one picture can reach another or the page
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def data_block(value: Any) -> Any:
    """JSON for a <script type="application/json">, in which nothing can end that element."""
    from markupsafe import Markup

    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _joined(names: Sequence[str]) -> str:
    folder = resources.files("labelsmooth.report")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
