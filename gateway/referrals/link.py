"""Links signed by the bank, and the ticket that a followed link leaves with the customer.

A code is the link's id and the bank's signature over all its terms: a made-up or altered code is refused, and the terms
in the database cannot be altered unnoticed either. Where it leads is a name of the bank's own pages, never an address.
Following a link proves nothing about who follows. So it yields a ticket, and only the bank's app can say which customer
came with it, once: the evidence `signed_scan` is the bank's word, not the partner's.
"""

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from gateway.ids import new_id
from gateway.jsonio import canonical
from gateway.keyring import SILENT, Keyring
from gateway.referrals.model import Link
from gateway.refusal import Refusal

LINK_LIFE_DAYS_LIMIT = 400  # days: a campaign's posters for a year; the link keys stay published as long
DAY_MS = 86_400_000
TICKET_LIFE_MS = DAY_MS  # a sign-up begun today is finished today; later the customer scans again
LABEL = re.compile(r"[A-Za-z0-9._-]{0,64}", re.ASCII)  # campaign and site
_CODE = re.compile(r"([0-9a-z]{26})([A-Za-z0-9_-]{86})", re.ASCII)  # id without its prefix, 64 bytes of ES256
_TICKET_BYTES = 20  # 160 random bits


class LinkMalformed(Refusal):
    """A member of the link that cannot be."""

    code, ob_code, outcome = "link_malformed", "U002", "schema"
    title = "The link cannot be made like this"


class LinkForged(Refusal):
    """The code was not signed by the bank."""

    status, code, ob_code, outcome = 404, "link_forged", "U011", "unknown"
    title = "This link is not one of the bank's"


class LinkExpired(Refusal):
    """Signed by the bank, and over."""

    status, code, ob_code, outcome = 410, "link_expired", "U011", "unknown"
    title = "This link has expired"


def make_link(
    keyring: Keyring, *, partner_id: str, landing: str, campaign: str, site: str, life_days: int, now_ms: int
) -> Link:
    """Sign the terms. Raises LinkMalformed."""
    if not 1 <= life_days <= LINK_LIFE_DAYS_LIMIT:
        raise LinkMalformed(f"LifeDays is 1 to {LINK_LIFE_DAYS_LIMIT}", path="$.Data.LifeDays")
    if not LABEL.fullmatch(campaign):
        raise LinkMalformed("Campaign has up to 64 letters, digits, dots, dashes", path="$.Data.Campaign")
    draft = Link(
        link_id=new_id("lnk"), partner_id=partner_id, landing=landing, campaign=campaign, site=site,
        created_at_ms=now_ms, expires_at_ms=now_ms + life_days * DAY_MS, jws_header="", jws_signature="",
    )  # fmt: skip
    header, _, signature = keyring.sign("link", _terms(draft), header={"typ": "parasol-link"}).split(".")
    return Link(
        draft.link_id, partner_id, landing, campaign, site, draft.created_at_ms, draft.expires_at_ms, header, signature
    )


def code_of(link: Link) -> str:
    return link.link_id.removeprefix("lnk_") + link.jws_signature


def read_code(code: str) -> tuple[str, str]:
    """The link's id and the signature that the code carries. Raises LinkForged."""
    match = _CODE.fullmatch(code)
    if match is None:
        raise LinkForged()
    return f"lnk_{match[1]}", match[2]


def check_code(keyring: Keyring, link: Link, signature: str, *, now_ms: int) -> None:
    """The bank signed exactly these terms, and they are not over. Raises LinkForged, LinkExpired."""
    try:
        token = f"{link.jws_header}.{_b64(_terms(link))}.{signature}"
        key = keyring.public_key(_kid(token))
        if key is None or key.purpose != "link" or key.state in SILENT:
            raise LinkForged()
        jws.deserialize_compact(token, key.key, algorithms=[key.alg], registry=_REGISTRY)
    except (JoseError, ValueError):
        raise LinkForged() from None
    if now_ms >= link.expires_at_ms:
        raise LinkExpired()


def new_ticket() -> tuple[str, bytes]:
    """A one-time scan ticket and the digest that we keep of it."""
    ticket = f"tkt_{secrets.token_urlsafe(_TICKET_BYTES)}"
    return ticket, ticket_digest(ticket)


def ticket_digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode()).digest()


def _terms(link: Link) -> bytes:
    """What the signature covers."""
    return canonical(
        {
            "campaign": link.campaign,
            "created_at_ms": link.created_at_ms,
            "expires_at_ms": link.expires_at_ms,
            "landing": link.landing,
            "link_id": link.link_id,
            "partner": link.partner_id,
            "site": link.site,
        }
    )


def _kid(token: str) -> str:
    header: dict[str, Any] = dict(jws.extract_compact(token.encode()).headers())
    return str(header.get("kid", ""))


def _b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


_REGISTRY = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
