"""The one renderer of refusals: the same no, in the manners of the protocol that asked.

Own and operator APIs: RFC 9457 problem+json. Open Banking: OBErrorResponse1, a 401 without a body. Authorization
server: RFC 6749 §5.2 JSON. Pages: a short page in the reader's language. Every 401 says how to authenticate.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from gateway.jsonio import encode
from gateway.refusal import Refusal, UnknownResource
from gateway.templates import template_environment

DPOP_ALGS = "ES256 PS256 EdDSA"
DOCS = "/portal/errors#"  # each code has its entry on the developer pages
CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'none'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
PAGE_HEADERS = (
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    ("vary", "accept-language, cookie"),
)
_TEMPLATES = template_environment()
_CAUSES_ZH = {  # what a customer reads in Chinese; the code beside it tells the rest to whoever looks into it
    403: "无权进行此操作，或页面已失效，请重新开始",
    404: "没有此页面，或链接无效",
    405: "无法以此方式访问该页面",
    408: "等待超时，请重试",
    409: "当前状态不允许此操作",
    410: "链接已过期",
    429: "操作过于频繁，请稍后再试",
    500: "系统出现故障；未经确认的操作均未生效",
    503: "暂时无法提供服务，请稍后再试",
}
_CAUSE_ZH = "请求未被受理，没有任何改动"
_NOT_YOURS = ("unknown_resource", "foreign_resource")
_MESSAGE_LIMIT = 500  # characters of OBError1.Message


class UnexpectedFailure(Refusal):
    """A bug or a lost dependency: nothing of it is shown, the interaction id finds it in the log."""

    status, code, ob_code, outcome = 500, "gateway_error", "U000", "gateway_error"
    oauth_error, oauth_status = "server_error", 500
    title = "Something broke on our side; nothing was changed that was not confirmed"


class UnknownPath(Refusal):
    """No operation has this path."""

    status: ClassVar[int] = 404
    oauth_status = 404
    code, ob_code, outcome = "unknown_path", "U011", "unmatched"
    title = "There is no such path"


class MethodNotAllowed(Refusal):
    """The path exists, the method does not."""

    status, oauth_status = 405, 405
    code, ob_code, outcome = "method_not_allowed", "U006", "unmatched"
    title = "This path does not take that method"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A refusal as it leaves the house."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...]


def render(refusal: Refusal, *, protocol: str, interaction_id: str) -> Rendered:
    """`protocol` is a value of gateway.call.Protocol."""
    match protocol:
        case "open-banking":
            return _open_banking(refusal, interaction_id)
        case "oauth":
            return _oauth(refusal)
        case "page":
            return _page(refusal, interaction_id)
        case "own" if refusal.code in _NOT_YOURS:
            # whether somebody else has it is nobody's business: both are the same 404, word for word
            return _problem(UnknownResource(), interaction_id)
        case _:
            return _problem(refusal, interaction_id)


def _problem(refusal: Refusal, interaction_id: str) -> Rendered:
    members: dict[str, Any] = {
        "type": DOCS + refusal.code,
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
        "instance": f"urn:uuid:{interaction_id}",
    }
    if refusal.path:
        members["path"] = refusal.path
    return Rendered(refusal.status, encode(members), "application/problem+json", _headers(refusal, refusal.status))


def _open_banking(refusal: Refusal, interaction_id: str) -> Rendered:
    status = refusal.ob_status or refusal.status
    headers = _headers(refusal, status)
    if status == 401:
        return Rendered(status, b"", "", headers)
    error = {"ErrorCode": refusal.ob_code, "Message": refusal.detail[:_MESSAGE_LIMIT], "Url": DOCS + refusal.code}
    if refusal.path:
        error["Path"] = refusal.path.removeprefix("$.")
    body = {"Id": interaction_id, "Code": f"{status} {refusal.code}"[:40], "Message": refusal.title, "Errors": [error]}
    return Rendered(status, encode(body), "application/json; charset=utf-8", headers)


def _oauth(refusal: Refusal) -> Rendered:
    status = refusal.oauth_status
    body = {"error": refusal.oauth_error, "error_description": _quotable(refusal.detail)}
    headers = (("cache-control", "no-store"), *refusal.headers)
    return Rendered(status, encode(body), "application/json", headers)


def _page(refusal: Refusal, interaction_id: str) -> Rendered:
    text = _TEMPLATES.get_template("refusal.html").render(
        refusal=refusal, cause_zh=_CAUSES_ZH.get(refusal.status, _CAUSE_ZH), interaction_id=interaction_id
    )
    headers = (("content-security-policy", CSP), *PAGE_HEADERS, *refusal.headers)
    return Rendered(refusal.status, text.encode(), "text/html; charset=utf-8", headers)


def _headers(refusal: Refusal, status: int) -> tuple[tuple[str, str], ...]:
    """A 401 names the scheme and the error; with DPoP the algorithms of a proof too (RFC 9449 §7.1)."""
    if status != 401:
        return refusal.headers
    said = f'{refusal.challenge} error="{refusal.oauth_error}", error_description="{_quotable(refusal.detail)}"'
    algs = f', algs="{DPOP_ALGS}"' if refusal.challenge == "DPoP" else ""
    return (("www-authenticate", said + algs), *refusal.headers)


def _quotable(text: str) -> str:
    """RFC 6749 §5.2 and RFC 6750 §3: %x20-21 / %x23-5B / %x5D-7E, so no quote, no backslash, ASCII only."""
    plain = text.replace('"', "'").replace("\\", "/")
    return "".join(c if " " <= c <= "~" else "?" for c in plain)
