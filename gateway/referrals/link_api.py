"""Signed links over HTTP: made by a partner, shown as a QR code, followed by a customer."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import msgspec

from gateway.admission.refusals import QueryMalformed
from gateway.call import Answer, Call, OpenCall
from gateway.clock import rfc3339
from gateway.database import Database, idempotency
from gateway.keyring import Keyring
from gateway.pages import page_answer
from gateway.partners.identity import IdentityKeys
from gateway.partners.partner import Partner, PartnerState
from gateway.referrals import link as rules
from gateway.referrals.api import envelope
from gateway.referrals.batch import check_agreed
from gateway.referrals.model import Evidence, Link, TermsBook
from gateway.referrals.qr import qr_png, qr_svg
from gateway.referrals.store import links
from gateway.refusal import UnknownResource
from gateway.templates import template_environment

_TEMPLATES = template_environment(str(files("gateway.referrals") / "templates"))
_TICKET = re.compile(r"tkt_[A-Za-z0-9_-]{27}", re.ASCII)
_PRIVATE = (
    ("referrer-policy", "no-referrer"),  # the ticket in the address goes to the landing page and nowhere else
    ("cache-control", "no-store"),
)


class LinkAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """`Landing` names one of the bank's pages; `Campaign` and `Site` come back in the touch and the event."""

    landing: str = "open-account"
    campaign: str = ""
    site: str = ""
    life_days: int = 90


class CreateLinkBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """Body of CreateReferralLink."""

    data: LinkAsked


@dataclass(frozen=True, slots=True)
class LinkApi:
    """CreateReferralLink, GetReferralLink, GetReferralLinkQr, FollowReferralLink and the sandbox's landing page."""

    database: Database
    keyring: Keyring
    keys: IdentityKeys
    terms: TermsBook
    partner: Callable[[str], Partner | None]
    landings: Mapping[str, str]  # the bank's pages by name: the only addresses that a link can lead to
    public_url: str

    async def create_link(self, call: Call) -> Answer:
        asked: LinkAsked = call.body.data
        check_agreed(self.terms(call.partner.partner_id, call.now_ms), Evidence.SIGNED_SCAN)
        if asked.landing not in self.landings:
            raise rules.LinkMalformed(f"Landing is one of {', '.join(self.landings)}", path="$.Data.Landing")
        if asked.site and asked.site not in {site.site_id for site in call.partner.sites}:
            raise rules.LinkMalformed("Site is none of yours", path="$.Data.Site")
        link = rules.make_link(
            self.keyring, partner_id=call.partner.partner_id, landing=asked.landing, campaign=asked.campaign,
            site=asked.site, life_days=asked.life_days, now_ms=call.now_ms,
        )  # fmt: skip
        await self.keys.keys_of(link.partner_id, now_ms=call.now_ms)  # a scan is turned into a token of this partner
        async with self.database.transaction() as conn:
            first = await idempotency.claim(conn, call.keyed, resource_id=link.link_id)
            if first is None:
                await links.insert(conn, link)
        return await self._answer(link.partner_id, first or link.link_id, status=201)

    async def get_link(self, call: Call) -> Answer:
        return await self._answer(call.partner.partner_id, call.path["LinkId"], status=200)

    async def get_qr(self, call: Call) -> Answer:
        """SVG, or PNG with Format=png."""
        kind = call.query.get("Format", "svg")
        if kind not in ("svg", "png") or call.query.keys() - {"Format"}:
            raise QueryMalformed("Format is svg or png", path="$query.Format")
        link, _ = await self._find(call.partner.partner_id, call.path["LinkId"])
        address = self._followed(link)
        if kind == "png":
            return Answer(200, qr_png(address), content_type="image/png")
        return Answer(200, qr_svg(address), content_type="image/svg+xml")

    async def follow_link(self, call: OpenCall) -> Answer:
        """303 to the bank's own page, with a one-time ticket. A partner that is not active leads there without one."""
        link_id, signature = rules.read_code(call.path["Code"])
        async with self.database.connection() as conn:
            link = await links.find_any(conn, link_id)
            if link is None:
                raise rules.LinkForged()
            rules.check_code(self.keyring, link, signature, now_ms=call.now_ms)
            call.name_partner(link.partner_id)
            address = self.landings.get(link.landing)
            if address is None:
                raise rules.LinkExpired()
            partner = self.partner(link.partner_id)
            if partner is not None and partner.state is PartnerState.ACTIVE and not call.is_head:
                ticket, digest = rules.new_ticket()
                ends_ms = call.now_ms + rules.TICKET_LIFE_MS
                await links.insert_scan(conn, link, digest, now_ms=call.now_ms, expires_at_ms=ends_ms)
                address += f"?ScanTicket={ticket}"
        return Answer(303, None, (("location", address), *_PRIVATE))

    async def show_landing(self, call: OpenCall) -> Answer:
        """Sandbox only: what would open in the bank's app, and the ticket that the app would send with the sign-up."""
        if call.path["Landing"] not in self.landings:
            raise UnknownResource("The bank has no such page")
        ticket = call.query.get("ScanTicket", "")
        page = _TEMPLATES.get_template("landing.html")
        return page_answer(page.render(ticket=ticket if _TICKET.fullmatch(ticket) else ""))

    async def _find(self, partner_id: str, link_id: str) -> tuple[Link, int]:
        async with self.database.connection() as conn:
            link = await links.find(conn, partner_id, link_id)
            if link is None:
                raise UnknownResource(f"There is no link {link_id}")
            return link, await links.count_scans(conn, link_id)

    async def _answer(self, partner_id: str, link_id: str, *, status: int) -> Answer:
        link, scans = await self._find(partner_id, link_id)
        data: dict[str, Any] = {
            "LinkId": link.link_id,
            "Url": self._followed(link),
            "Landing": link.landing,
            "Campaign": link.campaign,
            "Site": link.site,
            "Scans": scans,
            "CreationDateTime": rfc3339(link.created_at_ms),
            "ExpirationDateTime": rfc3339(link.expires_at_ms),
        }
        return Answer(status, envelope(data, address=f"{self.public_url}/partner/v1/referral-links/{link_id}"))

    def _followed(self, link: Link) -> str:
        return f"{self.public_url}/r/{rules.code_of(link)}"
