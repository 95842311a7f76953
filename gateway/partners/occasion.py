"""The occasion on which a customer wants an offer: what the offer's conditions and limits are asked about."""

from dataclasses import dataclass

from gateway.money import Money
from gateway.partners.partner import Partner, Site
from gateway.refusal import UnknownResource


class UnknownSite(UnknownResource):
    """The partner has no such site."""

    code, ob_code = "unknown_site", "D02C"
    title = "You have no such site"


@dataclass(frozen=True, slots=True)
class Occasion:
    """Who wants to pay how much, where and when. The plate is a digest; the number itself stays at the edge."""

    order: Money
    occurred_at_ms: int
    subject_token: str | None
    plate_digest: str | None
    site_id: str | None
    mcc: str | None


def site_of(partner: Partner, site_id: str) -> Site:
    """Raises UnknownSite."""
    site = next((site for site in partner.sites if site.site_id == site_id), None)
    if site is None:
        raise UnknownSite(f"{partner.partner_id} has no site {site_id!r}", path="$.Data.SiteId")
    return site
