"""How a page is made: from a template beside this file, everything in it escaped.

Refuses to hold: words and figures. Pages need nothing but themselves: no script, no font, no
network; ``page.html.j2`` is the frame of all of them and tells a browser so.
"""

from __future__ import annotations

from importlib import resources


def render(template: str, /, **values: object) -> str:
    """Return the page that a template beside this file makes of the values.

    A chart is marked as HTML by whoever drew it (``drawing``); all else is escaped.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def drawing(svg: str) -> str:
    """Return a chart of ``chart.py`` or ``curve.py``, so that it is not escaped once more."""
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704 - escaped where it is drawn


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")
