"""The one door to the templates: they place text and decide nothing, and an unknown name in one is an error."""

from __future__ import annotations

from functools import cache

import jinja2

_LOADER = jinja2.PackageLoader("fusegen.templates", "")


@cache
def template(name: str) -> jinja2.Template:
    """A template of the package; in one that ends in `.html.j2`, what is placed is escaped."""
    is_html = name.endswith(".html.j2")
    environment = jinja2.Environment(
        loader=_LOADER,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=False,
        autoescape=is_html,
        trim_blocks=is_html,
    )
    return environment.get_template(name)


@cache
def asset(name: str) -> str:
    """The text of a file beside the templates, such as a style sheet, with its braces left alone."""
    return _LOADER.get_source(jinja2.Environment(), name)[0]
