"""The customer's browser at our pages: the checks of each page on the request that it carries, steps × pages."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.oauth.browser import name_hash
from gateway.oauth.refusals import ClientSuspended, FormForged, RequestUnknown, TooManyLogins
from gateway.oauth.store import PushedRequest, digest_of
from gateway.partners.partner import PartnerState
from gateway.partners.snapshot import Snapshot

REQUEST_URI = "urn:ietf:params:oauth:request_uri:"  # RFC 9126 §2.2
REQUEST_URI_LIMIT = 200  # characters
REQUEST_S = 90  # a pushed request is opened within this; no leeway (FAPI 2.0 §5.3.2.2: under 600)
VISIT_MS = 600_000  # and finished within ten minutes in the browser that opened it
LOGIN_TRIES = 5  # wrong passcodes for one request
AGAIN_S = 30  # after them: time to go back to the partner and be sent here again


@dataclass(frozen=True, slots=True)
class Visit:
    """What a page was asked with, and the row that it names, held by the transaction."""

    client_id: str
    digest: bytes
    browser: str | None
    row: PushedRequest | None
    snapshot: Snapshot
    now_ms: int

    @property
    def pushed(self) -> PushedRequest:
        assert self.row is not None, "check_known comes first in the list"
        return self.row

    @property
    def same_browser(self) -> bool:
        """The browser that opened the request last, within its time."""
        mine = self.browser is not None and name_hash(self.browser) == self.pushed.browser
        return mine and self.now_ms < (self.pushed.ends_ms or 0)


def request_digest(request_uri: str) -> bytes:
    """Raises RequestUnknown for what was never a request_uri of ours."""
    if not request_uri.startswith(REQUEST_URI) or len(request_uri) > REQUEST_URI_LIMIT:
        raise RequestUnknown()
    return digest_of(request_uri)


def check_known(visit: Visit) -> None:
    """Pushed here, by this client. Nothing is redirected before that is certain."""
    if visit.row is None or visit.row.client_id != visit.client_id:
        raise RequestUnknown()


def check_not_completed(visit: Visit) -> None:
    if visit.pushed.completed_ms is not None:
        raise RequestUnknown("This authorization was completed; start again at the partner's")


def check_client(visit: Visit) -> None:
    """The app is still registered, with that address, and its partner is in good standing."""
    app = visit.snapshot.apps.get(visit.client_id)
    if app is None or visit.pushed.redirect_uri not in app.redirect_uris:
        raise RequestUnknown()
    if visit.snapshot.partners[app.partner_id].state is not PartnerState.ACTIVE:
        raise ClientSuspended()


def check_may_open(visit: Visit) -> None:
    """In time, or in the browser that opened it in time: a reload of a page works."""
    if not visit.same_browser and visit.now_ms >= visit.pushed.expires_ms:
        raise RequestUnknown("This authorization was not opened in time; start again at the partner's")


def check_same_browser(visit: Visit) -> None:
    if not visit.same_browser:
        raise FormForged()


def check_tries(visit: Visit) -> None:
    if visit.pushed.login_tries >= LOGIN_TRIES:
        raise TooManyLogins.for_now(AGAIN_S)


def check_logged_in(visit: Visit) -> None:
    if visit.pushed.customer_id is None:
        raise FormForged()


# fmt: off
MATRIX: tuple[tuple[Callable[[Visit], None], str], ...] = (
    # step                  pages
    (check_known,           "authorize  login  consent"),
    (check_not_completed,   "authorize  login  consent"),
    (check_client,          "authorize  login  consent"),
    (check_may_open,        "authorize                "),
    (check_same_browser,    "           login  consent"),
    (check_tries,           "           login         "),
    (check_logged_in,       "                  consent"),
)
# fmt: on


def check_visit(visit: Visit, *, page: str) -> PushedRequest:
    """The page's column, from top to bottom. Raises the Refusal of the first step that says no."""
    for step, pages in MATRIX:
        if page in pages.split():
            step(visit)
    return visit.pushed
