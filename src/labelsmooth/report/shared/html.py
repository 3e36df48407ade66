"""Filling the templates of pages."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from labelsmooth.extras import needs_extra

_SCRIPTS = ("shared/chart.js", "shared/figures.js", "shared/page.js")


def render(template: str, /, *, data: Any, scripts: Sequence[str] = (), **values: Any) -> str:
    """A page of this package's templates; what stands in the values is text, never markup.

    The style and the scripts, files of this package, go into the page itself. Its security policy names them
    by their hashes and forbids everything else: a browser that keeps it runs no other script and asks for no
    address, whatever a name from data does to the page.

    Args:
        template: a file of this package that extends shared/base.html.
        data: what the scripts read: {"sections": [those of `section`]}.
        scripts: more files than those that draw the figures.
        values: for the template.

    Raises:
        ImportError: jinja2 is missing; the extras `study` and `audit` bring it.
    """
    with needs_extra("study", "audit"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("labelsmooth.report", "."), autoescape=True, undefined=StrictUndefined
    )
    style, script = _joined(["shared/base.css"]), _joined([*_SCRIPTS, *scripts])
    policy = [
        "default-src 'none'",
        "img-src data:",
        f"style-src '{_hash(style)}'",
        f"script-src '{_hash(script)}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        data=_data_block(data),
        policy="; ".join(policy),
        **values,
    )


def _data_block(value: Any) -> Any:
    """JSON for a <script type="application/json">, in which nothing can end that element."""
    from markupsafe import Markup

    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _joined(names: Sequence[str]) -> str:
    folder = resources.files("labelsmooth.report")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
