"""How a page is sent: local assets only, a strict Content-Security-Policy."""

from gateway.call import Answer
from gateway.problem import CSP, PAGE_HEADERS


def page_answer(
    html: str, *, status: int = 200, headers: tuple[tuple[str, str], ...] = (), form_target: str = ""
) -> Answer:
    """`form_target` is an origin that a form of this page may end at: browsers hold redirects after it to the CSP."""
    policy = ("content-security-policy", f"{CSP} {form_target}".rstrip())
    return Answer(status, html.encode(), (policy, *PAGE_HEADERS, *headers), "text/html; charset=utf-8")
