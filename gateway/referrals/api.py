"""Identity keys and claims over HTTP, and the page manners that all referral endpoints share."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.admission.refusals import QueryMalformed
from gateway.call import Answer, Call
from gateway.clock import rfc3339
from gateway.database import Database
from gateway.partners.identity import IdentityKeys, identity_token
from gateway.referrals.explain import Sentence, explain
from gateway.referrals.model import Claim, Fate, Touch
from gateway.referrals.store import claims
from gateway.referrals.store.claims import GoalCounted
from gateway.refusal import UnknownResource

PAGE_LIMIT = 500  # entries of a page
PAGE_DEFAULT = 100
GOALS_SHOWN = 100  # of one claim; statements list them all
COUNT_FLOOR = 10  # claims: fewer are no crowd
_CURSOR = re.compile(r"[A-Za-z0-9_]{1,40}", re.ASCII)
EXAMPLE_PHONE = "+8613800138000"  # China Mobile's own service number: nobody's


@dataclass(frozen=True, slots=True)
class PageAsked:
    """Where a page begins and how long it is."""

    cursor: str
    limit: int


def read_page(query: Mapping[str, str], *, own_fields: Sequence[str]) -> PageAsked:
    """`Cursor` and `Limit`, next to the operation's own fields. Raises QueryMalformed."""
    known = ("Cursor", "Limit", *own_fields)
    if unknown := sorted(query.keys() - set(known)):
        raise QueryMalformed(f"{unknown[0]!r} is none of {', '.join(known)}", path=f"$query.{unknown[0]}")
    cursor, limit = query.get("Cursor", ""), query.get("Limit", str(PAGE_DEFAULT))
    if cursor and not _CURSOR.fullmatch(cursor):
        raise QueryMalformed("Cursor is what Links.Next gave", path="$query.Cursor")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:6]) <= PAGE_LIMIT):
        raise QueryMalformed(f"Limit is 1 to {PAGE_LIMIT}", path="$query.Limit")
    return PageAsked(cursor, int(limit))


def envelope(data: Any, *, address: str, next_address: str = "") -> dict[str, Any]:
    """Data, Links, Meta, as in UK Open Banking."""
    links = {"Self": address, **({"Next": next_address} if next_address else {})}
    return {"Data": data, "Links": links, "Meta": {}}


@dataclass(frozen=True, slots=True)
class ReferralsApi:
    """GetIdentityKeys, ListClaims, CountClaims, GetClaim."""

    database: Database
    keys: IdentityKeys
    public_url: str

    async def identity_keys(self, call: Call) -> Answer:
        """The partner's own keys: it computes the tokens of its customers itself and sends us no phone."""
        keys = await self.keys.keys_of(call.partner.partner_id, now_ms=call.now_ms)
        data = {
            "IdentityKey": [
                {
                    "Epoch": key.epoch,
                    "Algorithm": "HMAC-SM3",
                    "Key": urlsafe_b64encode(key.key).rstrip(b"=").decode(),
                    "CreationDateTime": rfc3339(key.created_at_ms),
                    "State": "CURRENT" if key is keys[-1] else "ACCEPTED",
                }
                for key in keys
            ],
            "TokenFormat": "idt_<Epoch>_<base64url, no padding, of HMAC-SM3(Key, PhoneFormat as ASCII)>",
            "PhoneFormat": "E.164, like +8613800138000",
            "Example": {"Phone": EXAMPLE_PHONE, "CustomerToken": identity_token(keys[-1], EXAMPLE_PHONE)},
        }
        return Answer(200, envelope(data, address=f"{self.public_url}/partner/v1/identity-keys"))

    async def list_claims(self, call: Call) -> Answer:
        """Whoever has not paid looks alike, in members, order and paging: a list says nothing of who banks here."""
        page = read_page(call.query, own_fields=("State",))
        fate = _fate(call.query.get("State"))
        async with self.database.connection() as conn:
            found = await claims.page(conn, call.partner.partner_id, fate=fate, after=page.cursor, limit=page.limit + 1)
        base = f"{self.public_url}/partner/v1/claims"
        fields = f"Limit={page.limit}" + (f"&State={fate}" if fate else "")
        shown = found[: page.limit]
        more = f"{base}?Cursor={shown[-1].claim_id}&{fields}" if len(found) > page.limit else ""
        return Answer(200, envelope({"Claim": list(map(_claim, shown))}, address=base, next_address=more))

    async def count_claims(self, call: Call) -> Answer:
        """What has not paid yet is told as a number, in tens: no single customer moves it."""
        async with self.database.connection() as conn:
            told, brought, paid = await claims.counts(conn, call.partner.partner_id)
        data = {"Recorded": told, "Brought": brought - brought % COUNT_FLOOR, "Paid": paid, "Floor": COUNT_FLOOR}
        return Answer(200, envelope(data, address=f"{self.public_url}/partner/v1/claims/summary"))

    async def get_claim(self, call: Call) -> Answer:
        """With its touches; and once it pays, its goals and why it brought the customer."""
        claim_id, partner_id = call.path["ClaimId"], call.partner.partner_id
        async with self.database.connection() as conn:
            claim = await claims.find(conn, partner_id, claim_id)
            if claim is None:
                raise UnknownResource(f"There is no claim {claim_id}")
            has_paid = claim.fate is Fate.PAID
            steps, rule = await claims.trace(conn, claim) if has_paid else ([], "")
            touches = await claims.touches(conn, claim)
            goals = await claims.goals(conn, claim, limit=GOALS_SHOWN) if has_paid else []
        data = {
            **_claim(claim),
            "Touch": list(map(touch_members, touches)),
            "Goal": list(map(goal_members, goals)),
            "Rule": rule,
            "Trace": list(map(sentence_members, explain(steps, viewer=partner_id))),
        }
        return Answer(200, envelope(data, address=f"{self.public_url}/partner/v1/claims/{claim_id}"))


def _claim(claim: Claim) -> dict[str, Any]:
    return {
        "ClaimId": claim.claim_id,
        "CustomerToken": claim.customer_token,
        "State": claim.fate.value,
        "RecordedDateTime": rfc3339(claim.recorded_at_ms),
        "ExpirationDateTime": rfc3339(claim.shown_until_ms),
    }


def touch_members(told: tuple[Touch, str, str]) -> dict[str, Any]:
    touch, consent_ref, site = told
    return {
        "Evidence": touch.evidence.value,
        "OccurredDateTime": rfc3339(touch.occurred_at_ms),
        "RecordedDateTime": rfc3339(touch.recorded_at_ms),
        "ConsentReference": consent_ref,
        "Site": site,
        "Campaign": touch.campaign,
    }


def goal_members(goal: GoalCounted) -> dict[str, Any]:
    return {"Goal": goal.goal, "EventId": goal.event_id, "ReachedDateTime": rfc3339(goal.occurred_at_ms)}


def sentence_members(sentence: Sentence) -> dict[str, str]:
    return {"Code": sentence.code, "English": sentence.english, "Chinese": sentence.chinese}


def _fate(text: str | None) -> Fate | None:
    if text is None:
        return None
    if text not in Fate.__members__:
        raise QueryMalformed(f"State is one of {', '.join(Fate)}", path="$query.State")
    return Fate(text)
