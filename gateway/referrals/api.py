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
from gateway.referrals.model import Claim, ClaimState
from gateway.referrals.store import claims
from gateway.refusal import UnknownResource

PAGE_LIMIT = 500  # entries of a page
PAGE_DEFAULT = 100
_GOALS_SHOWN = 100  # of one claim; statements list them all
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
    """GetIdentityKeys, ListClaims, GetClaim."""

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
        page = read_page(call.query, own_fields=("State",))
        state = _state(call.query.get("State"))
        async with self.database.connection() as conn:
            found = await claims.page(
                conn, call.partner.partner_id, state=state, after=page.cursor, limit=page.limit + 1
            )
        base = f"{self.public_url}/partner/v1/claims"
        fields = f"Limit={page.limit}" + (f"&State={state}" if state else "")
        shown = found[: page.limit]
        more = f"{base}?Cursor={shown[-1].claim_id}&{fields}" if len(found) > page.limit else ""
        return Answer(200, envelope({"Claim": list(map(_claim, shown))}, address=base, next_address=more))

    async def get_claim(self, call: Call) -> Answer:
        """With its touches, its goals, and why it owns the customer or does not."""
        claim_id, partner_id = call.path["ClaimId"], call.partner.partner_id
        async with self.database.connection() as conn:
            claim = await claims.find(conn, partner_id, claim_id)
            if claim is None:
                raise UnknownResource(f"There is no claim {claim_id}")
            steps, rule = await claims.trace(conn, claim)
            touches = await claims.touches(conn, claim)
            goals = await claims.goals(conn, claim, limit=_GOALS_SHOWN)
        data = {
            **_claim(claim),
            "Touch": [
                {
                    "Evidence": touch.evidence.value,
                    "OccurredDateTime": rfc3339(touch.occurred_at_ms),
                    "RecordedDateTime": rfc3339(touch.recorded_at_ms),
                    "ConsentReference": consent_ref,
                    "Site": site,
                    "Campaign": touch.campaign,
                }
                for touch, consent_ref, site in touches
            ],
            "Goal": [
                {"Goal": goal.goal, "EventId": goal.event_id, "ReachedDateTime": rfc3339(goal.occurred_at_ms)}
                for goal in goals
            ],
            "Rule": rule,
            "Trace": list(map(_sentence, explain(steps, viewer=partner_id))),
        }
        return Answer(200, envelope(data, address=f"{self.public_url}/partner/v1/claims/{claim_id}"))


def _claim(claim: Claim) -> dict[str, Any]:
    return {
        "ClaimId": claim.claim_id,
        "CustomerToken": claim.customer_token,
        "State": claim.state.value,
        "RecordedDateTime": rfc3339(claim.recorded_at_ms),
        "ExpirationDateTime": rfc3339(claim.expires_at_ms),
    }


def _sentence(sentence: Sentence) -> dict[str, str]:
    return {"Code": sentence.code, "English": sentence.english, "Chinese": sentence.chinese}


def _state(text: str | None) -> ClaimState | None:
    if text is None:
        return None
    if text not in ClaimState.__members__:
        raise QueryMalformed(f"State is one of {', '.join(ClaimState)}", path="$query.State")
    return ClaimState(text)
