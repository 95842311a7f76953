"""The customer's browser: its cookie, what proves that a form comes from our page, the way back to the client."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from gateway.call import Answer, OpenCall
from gateway.oauth.refusals import FormForged
from gateway.oauth.store import PushedRequest, new_secret

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+", re.ASCII)  # nothing that could end a directive of the policy


class Browser:
    """The cookie holds a random name; the database its hash, beside the request that this browser opened.

    Over https the name starts with __Host-, so that no other host of the domain can set it (RFC 6265bis §4.1.3.2).
    SameSite=Lax: the customer arrives from the partner's site, forms of other sites come without it.
    """

    def __init__(self, *, issuer: str, secret: bytes, cookie: str = "parasol", same_site: str = "Lax") -> None:
        secure = issuer.startswith("https://")
        self._cookie = f"__Host-{cookie}" if secure else cookie
        self._attributes = f"; Path=/; HttpOnly; SameSite={same_site}" + ("; Secure" if secure else "")
        self._secret = secret

    def name(self, call: OpenCall) -> str | None:
        return call.cookies.get(self._cookie) or None

    def new_cookie(self) -> tuple[str, tuple[str, str]]:
        """A new name and the header that sets it."""
        name = new_secret()
        return name, ("set-cookie", f"{self._cookie}={name}{self._attributes}")

    def no_cookie(self) -> tuple[str, str]:
        """The header that takes it away."""
        return "set-cookie", f"{self._cookie}={self._attributes}; Max-Age=0"

    def form_token(self, name: str, digest: bytes, *, page: str) -> str:
        """What the hidden field of a page holds: good for this browser, this request and this page alone."""
        text = f"{page}\n{name}\n".encode() + digest
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()

    def check_form(self, call: OpenCall, form: Mapping[str, str], *, digest: bytes, page: str) -> str:
        """The browser's name. Raises FormForged for a form that our page in this browser did not send."""
        if call.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise FormForged("The form was sent from another site")
        name = self.name(call)
        if name is None:
            raise FormForged("This page needs its cookie; go back to the partner and start again")
        wanted = self.form_token(name, digest, page=page)
        if not hmac.compare_digest(wanted.encode(), form.get("csrf", "").encode()):
            raise FormForged()
        return name


def name_hash(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()


def back_to_client(
    pushed: PushedRequest, *, issuer: str, answer: Mapping[str, str], headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    """303 to the registered address with the answer, `state` as it came, and `iss` (RFC 9207)."""
    state = {"state": pushed.state} if pushed.state is not None else {}
    separator = "&" if "?" in pushed.redirect_uri else "?"
    location = f"{pushed.redirect_uri}{separator}{urlencode({**answer, **state, 'iss': issuer})}"
    return Answer(303, None, (("location", location), ("referrer-policy", "no-referrer"), *headers))


def origin_of(address: str) -> str:
    """`https://host:port`, what the page's form may lead to: browsers hold redirects after a form to the CSP too."""
    parts = urlsplit(address)
    origin = f"{parts.scheme}://{parts.netloc}"
    return origin if _ORIGIN.fullmatch(origin) else ""
