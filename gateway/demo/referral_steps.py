"""Steps 2 and 3: a batch, a signed link, a contested customer; goals at the bank, each attributed with a reason."""

import hashlib
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from rich.table import Table

from gateway.demo.client import CallFailed, PartnerClient
from gateway.demo.stage import V1, Stage, data, identity_token
from gateway.demo.waiting import until

BATCH_PEOPLE, SCAN_PEOPLE = range(10), range(10, 12)
PAID_PEOPLE = 6  # those who activate a card: the partners' contracts pay for it
CONTESTED = 0  # the customer whom both partners claim
CSV = {"Content-Type": "text/csv"}
DECIDED = ("CONVERTED", "OWNING", "LOST")  # as the bank sees claims; a partner sees RECORDED and PAID
_MOMENT = re.compile(r" of \d{4}-\d\d-\d\dT[\d:.]+Z")


async def bring_customers(stage: Stage) -> Table:
    """A batch of tokens with a result for each row; two customers by QR; one claimed by the other partner too."""
    keys = (await data(stage.parkco, "GET", f"{V1}/identity-keys"))["IdentityKey"][-1]
    tokens = [await identity_token(stage.parkco, stage.phone(n), keys) for n in BATCH_PEOPLE]
    rows = [*tokens, tokens[3], "not-a-token"]
    batch = await upload_batch(stage.parkco, rows, number=f"{stage.run}-1", touched=_hours_ago(30))
    results = await data(stage.parkco, "GET", f"{V1}/referral-batches/{batch['BatchId']}/results")
    codes = [row["Code"] for row in results["Row"]]
    stage.checks.expect("every row of the batch has a result", len(codes) == len(rows), codes)
    stage.checks.expect("ten rows are taken", batch["Counts"]["OK"] == len(tokens), batch["Counts"])
    stage.checks.expect("a row that is no token says so", "MALFORMED" in codes[-1], codes[-1])
    stage.notes["tickets"] = [await _scan(stage) for _ in SCAN_PEOPLE]
    rival = (await data(stage.shopco, "GET", f"{V1}/identity-keys"))["IdentityKey"][-1]
    token = await identity_token(stage.shopco, stage.phone(CONTESTED), rival)
    stage.checks.expect("two partners' tokens of one phone have nothing in common", token != tokens[CONTESTED])
    stage.notes["claims"] = [row["ClaimId"] for row in results["Row"] if "ClaimId" in row]
    other = await upload_batch(stage.shopco, [token], number=f"{stage.run}-1", touched=_hours_ago(40))
    rows_of_rival = await data(stage.shopco, "GET", f"{V1}/referral-batches/{other['BatchId']}/results")
    stage.notes["rival"] = [row["ClaimId"] for row in rows_of_rival["Row"]]
    stage.checks.expect("shopco's claim on the same customer is taken", other["Counts"]["OK"] == 1, other["Counts"])
    table = Table("Row", "Outcome", "Code", title="Referral batch of parkco · 批量导流结果")
    for row in results["Row"]:
        table.add_row(str(row["RowNumber"]), row["Outcome"], row["Code"])
    return table


async def upload_batch(client: PartnerClient, tokens: list[str], *, number: str, touched: str) -> dict[str, Any]:
    """Declare, send the file, wait until every row is applied."""
    lines = ["customer_token,consent_ref,touched_at,site"]
    lines += [f"{token},agreed-{place},{touched},lot-1" for place, token in enumerate(tokens, 1)]
    if client.client_id.startswith("shopco"):
        lines = [line.removesuffix(",lot-1") + "," if line.endswith(",lot-1") else line for line in lines]
    return await upload_lines(client, lines, distinct=len(set(tokens)), number=number)


async def upload_lines(
    client: PartnerClient, lines: list[str], *, distinct: int, number: str, patience_s: float = 60
) -> dict[str, Any]:
    file = ("\n".join(lines) + "\n").encode()
    declared = {
        "OutNumber": number,
        "RowCount": len(lines) - 1,
        "FileSha256": hashlib.sha256(file).hexdigest(),
        "ControlTotal": distinct,
    }
    batch = await data(client, "POST", f"{V1}/referral-batches", body={"Data": declared})
    path = f"{V1}/referral-batches/{batch['BatchId']}"
    await data(client, "PUT", f"{path}/file", content=file, headers=CSV)

    async def applied() -> dict[str, Any] | None:
        found = await data(client, "GET", path)
        return found if found["State"] == "APPLIED" else None

    return await until(applied, what="the batch is applied", patience_s=patience_s)


async def _scan(stage: Stage) -> str:
    """A customer scans the partner's signed QR code; the bank's page gets a one-time ticket."""
    link = await data(stage.parkco, "POST", f"{V1}/referral-links", body={"Data": {"Site": "lot-1"}})
    qr = await stage.parkco.call("GET", f"{V1}/referral-links/{link['LinkId']}/qr", headers={"Accept": "image/svg+xml"})
    stage.checks.expect("the link's QR code is an SVG", "<svg" in qr.text[:200], qr.status_code)
    followed = await stage.http.get(link["Url"])
    stage.checks.expect("following the link leads to the bank's own page", followed.status_code == 303)
    forged = await stage.http.get(link["Url"][:-1] + ("A" if link["Url"][-1] != "A" else "B"))
    stage.checks.expect("a forged link is refused", forged.status_code >= 400, forged.status_code)
    return parse_qs(urlsplit(followed.headers["location"]).query)["ScanTicket"][0]


async def reach_goals(stage: Stage) -> Table:
    """In the sandbox bank some of them open an account, activate a card and spend."""
    opened = [*list(BATCH_PEOPLE)[:5], *SCAN_PEOPLE]
    tickets = dict(zip(SCAN_PEOPLE, stage.notes["tickets"], strict=True))
    people: list[dict[str, Any]] = [{"Phone": stage.phone(n), "Name": f"客户 {n}"} for n in opened]
    for person, number in zip(people, opened, strict=True):
        if number in tickets:
            person["ScanTicket"] = tickets[number]
    await stage.sandbox("/customers", {"Customer": people})
    now = datetime.now(UTC)
    events = [_event(stage, n, "CARD_ACTIVATED", now) for n in opened[:6]]
    events += [_event(stage, n, "SPEND", now, amount="258.00") for n in opened[:4]]
    told = await stage.sandbox("/customer-events", {"Event": events})
    stage.checks.expect("the bank heard of every goal once", told["Accepted"] == len(events), told)
    again = await stage.sandbox("/customer-events", {"Event": events})
    stage.checks.expect("told twice is told once", again["Accepted"] == 0, again)
    stage.notes["since"] = max(stage.notes["claims"])

    async def decided() -> list[dict[str, Any]] | None:
        """Five by the batch and two by their scans; six of them have activated a card, which pays."""
        newer = (await data(stage.parkco, "GET", f"{V1}/claims?Cursor={stage.notes['since']}"))["Claim"]
        ids = [*stage.notes["claims"], *(claim["ClaimId"] for claim in newer)]
        found = [await data(stage.parkco, "GET", f"{V1}/claims/{claim_id}") for claim_id in ids]
        return found if sum(claim["State"] == "PAID" for claim in found) >= PAID_PEOPLE else None

    seen = await until(decided, what="goals are attributed")
    _keep_secrets(stage, seen)
    claims = [await _as_the_bank_sees(stage, "parkco", claim["ClaimId"]) for claim in seen]
    claims += await _owned_by_scan(stage, {claim["ClaimId"] for claim in seen})
    rival = [await _as_the_bank_sees(stage, "shopco", claim_id) for claim_id in stage.notes["rival"]]
    return _explain(stage, claims, rival)


def _keep_secrets(stage: Stage, seen: list[dict[str, Any]]) -> None:
    """A partner reads why only of claims that pay; all others look alike, whoever the customer is."""
    unpaid = [claim for claim in seen if claim["State"] != "PAID"]
    shown = {
        (c["State"], c["RecordedDateTime"], c["ExpirationDateTime"], str(c["Goal"]), str(c["Trace"])) for c in unpaid
    }
    stage.checks.expect("claims that have not paid look alike", len(shown) == 1, shown)
    reasons = [bool(claim["Trace"]) for claim in seen if claim["State"] == "PAID"]
    stage.checks.expect("every claim that pays says why", all(reasons), reasons)


async def _as_the_bank_sees(stage: Stage, partner_id: str, claim_id: str) -> dict[str, Any]:
    return await _bank_reads(stage, f"/partners/{partner_id}/claims/{claim_id}")


async def _owned_by_scan(stage: Stage, known: set[str]) -> list[dict[str, Any]]:
    """Claims of scans that have not paid: only the bank knows of them."""
    page = await _bank_reads(stage, f"/partners/parkco/claims?State=OWNING&Cursor={stage.notes['since']}&Limit=500")
    ids = [claim["ClaimId"] for claim in page["Claim"] if claim["ClaimId"] not in known]
    return [await _as_the_bank_sees(stage, "parkco", claim_id) for claim_id in ids]


async def _bank_reads(stage: Stage, path: str) -> dict[str, Any]:
    response = await stage.maker.call("GET", path)
    if response.status_code != 200:
        raise CallFailed(response)
    return dict(response.json()["Data"])


def _explain(stage: Stage, claims: list[dict[str, Any]], rival: list[dict[str, Any]]) -> Table:
    """Who brought whom, and why, as the bank's operators read it; the contested customer has exactly one owner."""
    reasons: Counter[tuple[str, str, str]] = Counter()
    owners = 0
    for name, found in (("parkco", claims), ("shopco", rival)):
        for claim in (claim for claim in found if claim["State"] in DECIDED):
            stage.checks.expect("every decided claim has a readable reason", bool(claim["Trace"]), claim["ClaimId"])
            reasons[name, claim["State"], _MOMENT.sub("", claim["Trace"][0]["English"])] += 1
            owners += claim["State"] != "LOST"
    contested = [claim["State"] for claim in (claims[CONTESTED], rival[0])]
    stage.checks.expect("the contested customer has one owner", sorted(contested)[1:] == ["LOST"], contested)
    stage.checks.expect("everybody who came has one owner", owners == 7, owners)
    table = Table("Partner", "State", "Claims", "Why · 归因理由", title="Attribution, as the bank sees it · 归因")
    for (name, state, why), count in reasons.items():
        table.add_row(name, state, str(count), why)
    return table


def _event(stage: Stage, number: int, kind: str, now: datetime, *, amount: str | None = None) -> dict[str, Any]:
    event: dict[str, Any] = {
        "EventId": f"{stage.run}-{kind}-{number}",
        "Kind": kind,
        "Phone": stage.phone(number),
        "OccurredDateTime": now.isoformat(),
    }
    if amount is not None:
        event["Amount"] = {"Amount": amount, "Currency": "CNY"}
    return event


def _hours_ago(hours: int) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).isoformat(timespec="seconds").replace("+00:00", "Z")
