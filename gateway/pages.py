"""How a page is rendered and sent: escaped templates, local assets only, a strict Content-Security-Policy."""

import jinja2

from gateway.call import Answer

CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'none'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
PAGE_HEADERS = (
    ("content-security-policy", CSP),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
)


def template_environment(folder: str) -> jinja2.Environment:
    """Autoescaped, undefined names are errors, whitespace trimmed."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_answer(html: str, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    return Answer(status, html.encode(), (*PAGE_HEADERS, *headers), "text/html; charset=utf-8")
