"""How a page is rendered and sent: escaped templates, local assets only, a strict Content-Security-Policy."""

import jinja2

from gateway.call import Answer
from gateway.problem import CSP, PAGE_HEADERS


def template_environment(folder: str) -> jinja2.Environment:
    """Autoescaped, undefined names are errors, whitespace trimmed."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_answer(
    html: str, *, status: int = 200, headers: tuple[tuple[str, str], ...] = (), form_target: str = ""
) -> Answer:
    """`form_target` is an origin that a form of this page may end at: browsers hold redirects after it to the CSP."""
    policy = ("content-security-policy", f"{CSP} {form_target}".rstrip())
    return Answer(status, html.encode(), (policy, *PAGE_HEADERS, *headers), "text/html; charset=utf-8")
