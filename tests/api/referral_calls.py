"""What a partner does to bring customers, over HTTP: keys, tokens, files; and the bank's feed, as a test says it."""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac

from gateway.clock import now_ms, rfc3339
from gateway.referrals.attributing import FeedEntry, GoalDesk
from gateway.referrals.batch_api import BatchApi
from gateway.referrals.model import GoalReached, Tenure
from tests.conftest import World

V1 = "/partner/v1"
PHONE = "+8613900001234"
CSV = {"Content-Type": "text/csv"}


async def token_of(world: World, partner_id: str, phone: str) -> str:
    """As the partner computes it, with nothing but the key that the bank gave it."""
    answer = (await world.client(partner_id).call("GET", f"{V1}/identity-keys")).json()["Data"]["IdentityKey"][-1]
    digest = hmac.HMAC(urlsafe_b64decode(answer["Key"] + "="), hashes.SM3())
    digest.update(phone.encode())
    return f"idt_{answer['Epoch']}_{urlsafe_b64encode(digest.finalize()).decode().rstrip('=')}"


def csv_file(*tokens: str, touched_ms: int | None = None, site: str = "") -> bytes:
    touched = rfc3339(touched_ms or now_ms() - 60_000)
    rows = [f"{token},consent-{place},{touched},{site}" for place, token in enumerate(tokens)]
    return "\n".join(["customer_token,consent_ref,touched_at,site", *rows, ""]).encode()


def declaration(file: bytes, *, number: str = "2026-11-23.1", **changed: Any) -> dict[str, Any]:
    lines = file.decode().splitlines()[1:]
    said = {
        "OutNumber": number,
        "RowCount": len(lines),
        "FileSha256": hashlib.sha256(file).hexdigest(),
        "ControlTotal": len({line.partition(",")[0] for line in lines}),
    }
    return {"Data": {**said, **changed}}


async def send(world: World, partner_id: str, file: bytes, *, number: str = "n-1") -> dict[str, Any]:
    """Declare, upload, apply; returns the batch as it stands then."""
    client = world.client(partner_id)
    declared = await client.call("POST", f"{V1}/referral-batches", body=declaration(file, number=number))
    assert declared.status_code == 201, declared.text
    path = f"{V1}/referral-batches/{declared.json()['Data']['BatchId']}"
    sent = await client.call("PUT", f"{path}/file", content=file, headers=CSV)
    assert sent.status_code == 202, sent.text
    await world.house.rooms[BatchApi].desk.apply_batches_due(now_ms())
    return dict((await client.call("GET", path)).json()["Data"])


async def reach(world: World, *goals: GoalReached) -> None:
    """The bank's feed says so, and the chore hears it."""
    desk = world.house.rooms[BatchApi].desk

    async def feed(after: str, limit: int) -> Sequence[FeedEntry]:
        return [FeedEntry(goal.bank_event_id, goal) for goal in goals if goal.bank_event_id > after][:limit]

    await GoalDesk(desk.database, desk.keys, desk.terms, feed).attribute_goals_due(now_ms())


def opened(event_id: str, phone: str = PHONE, *, ticket: str = "", after_ms: int = 5_000) -> GoalReached:
    at_ms = now_ms() + after_ms
    return GoalReached(
        event_id, "ACCOUNT_OPENED", f"cus-{phone}", phone, 0, "CNY", at_ms, (Tenure(at_ms, None),), at_ms, ticket
    )


def activated(event_id: str, account: GoalReached) -> GoalReached:
    """The card of somebody who opened an account: the demo's contracts pay for it."""
    at_ms = account.occurred_at_ms + 1
    return replace(account, bank_event_id=event_id, goal="CARD_ACTIVATED", occurred_at_ms=at_ms, first_at_ms=at_ms)


async def bank_sees(world: World, partner_id: str, query: str = "") -> list[dict[str, Any]]:
    """A partner's claims as the bank's operators see them."""
    answer = await world.ops("ops-maker", "GET", f"/admin/v1/partners/{partner_id}/claims{query}")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["Data"]["Claim"])
