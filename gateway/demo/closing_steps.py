"""Steps 7 and 8: the day closes; statements are calculated, approved by two, issued, downloaded, verified; metrics."""

import asyncio
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
from rich.table import Table

from gateway.demo.client import CallFailed, PartnerClient
from gateway.demo.stage import V1, Operator, Stage, data
from gateway.demo.waiting import until

PATIENCE_S = 600  # a whole real day is sealed and settled in well under a minute; a busy machine may take longer
CHECKED = {"Reason": "the demo checked it"}
SETTLED = {"Reason": "the demo settles its day"}
METRICS = (
    "parasol_requests_total",
    "parasol_refusals_total",
    "parasol_redemptions_total",
    "parasol_claims_total",
    "parasol_statements_total",
    "parasol_settlement_accrued_minor",
)


async def begin_day(stage: Stage) -> str:
    """On a home whose day was closed before, the sandbox's business date moves on: what happens now is of a new day."""
    present = await _ok(stage.maker, "GET", "/days")
    day, business_date = present["Day"], present["BusinessDate"]
    if day == business_date:
        return f"The business date is {day}. 营业日 {day}。"
    moved = await stage.sandbox("/business-date", {"Date": day})
    stage.checks.expect("the business date moves to the day that is open", moved["Date"] == day, moved)
    return f"The business date moved from {moved['DateBefore']} to {day}. 营业日从 {moved['DateBefore']} 推进到 {day}。"


async def close_day(stage: Stage) -> Table:
    """Sealed in a Merkle tree under a signed head; then both partners' statements, verified offline."""
    day = (await _ok(stage.maker, "GET", "/days"))["Day"]
    over = {"Reason": "the demo's day is over"}
    tomorrow = date.fromisoformat(day) + timedelta(days=1)
    early = await stage.maker.call("POST", f"/days/{tomorrow}/closure", over)
    stage.checks.expect("no day after the business date is closed", early.status_code == 409, early.text)
    await _ok(stage.maker, "POST", f"/days/{day}/closure", over)

    async def sealed() -> dict[str, Any] | None:
        found = await _ok(stage.maker, "GET", f"/days/{day}")
        return found if found["Status"] == "SEALED" or "Failure" in found else None

    closed = await until(sealed, what=f"{day} is sealed", patience_s=PATIENCE_S)
    stage.checks.expect("the day is sealed with its events", closed.get("EventCount", 0) > 0, closed)
    table = Table(
        "Partner", "Lines", "Bank owes", "Partner owes", "Net", "Verified", title=f"Statements of {day} · 对账单"
    )
    for client, partner_id in ((stage.parkco, "parkco"), (stage.shopco, "shopco")):
        statement = await _settle(stage, partner_id, day)
        file = await _download(stage, client, partner_id, statement["StatementId"])
        accepted = await _verified(stage, file, partner_id)
        table.add_row(
            partner_id, str(statement["LineCount"]), statement["BankOwes"]["Amount"],
            statement["PartnerOwes"]["Amount"], statement["Net"]["Amount"], "✓" if accepted else "✗",
        )  # fmt: skip
    return table


async def _settle(stage: Stage, partner_id: str, day: str) -> dict[str, Any]:
    """Calculated, approved by a maker and another person, issued."""
    asked = await _ok(stage.maker, "POST", "/statements", {"PartnerId": partner_id, "ToDay": day, **SETTLED})
    path = f"/statements/{asked['StatementId']}"

    async def calculated() -> dict[str, Any] | None:
        found = await _ok(stage.maker, "GET", path)
        return found if found["Status"] != "CALCULATING" else None

    statement = await until(calculated, what="the statement is calculated", patience_s=PATIENCE_S)
    stage.checks.expect(f"{partner_id}'s statement is calculated", statement["Status"] == "CALCULATED", statement)
    early = await stage.maker.call("POST", f"{path}/issue", CHECKED)
    stage.checks.expect("a statement without two approvals is not issued", early.status_code == 409, early.text)
    seen = {"Sha256": statement["Sha256"], **CHECKED}
    await _ok(stage.maker, "POST", f"{path}/approvals", {"Role": "maker", **seen})
    alone = await stage.maker.call("POST", f"{path}/approvals", {"Role": "checker", **seen})
    stage.checks.expect("the maker cannot be the checker", alone.status_code == 403, alone.text)
    await _ok(stage.checker, "POST", f"{path}/approvals", {"Role": "checker", **seen})
    await _ok(stage.checker, "POST", f"{path}/issue", CHECKED)
    await until(lambda: _booked(stage, asked["StatementId"]), what="its commissions are booked", patience_s=PATIENCE_S)
    return await _ok(stage.maker, "GET", path)


async def _booked(stage: Stage, statement_id: str) -> bool | None:
    jobs = (await _ok(stage.maker, "GET", "/jobs?State=DONE&Kind=commission_booking"))["Job"]
    return True if any(job["StatementId"] == statement_id for job in jobs) else None


async def _download(stage: Stage, client: PartnerClient, partner_id: str, statement_id: str) -> Path:
    listed = (await data(client, "GET", f"{V1}/statements"))["Statement"]
    stage.checks.expect("the partner sees its statement", statement_id in [s["StatementId"] for s in listed])
    response = await client.call("GET", f"{V1}/statements/{statement_id}/file")
    stage.checks.expect("the partner downloads it", response.status_code == 200, response.status_code)
    other = stage.shopco if client is stage.parkco else stage.parkco
    foreign = await other.call("GET", f"{V1}/statements/{statement_id}/file")
    stage.checks.expect("another partner does not", foreign.status_code == 404, foreign.status_code)
    file = stage.home / "downloads" / f"{partner_id}-{statement_id}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(response.content)
    return file


async def _verified(stage: Stage, file: Path, partner_id: str) -> bool:
    """By the stand-alone verifier, with the bank's published keys pinned; a copy with one digit changed is refused."""
    jwks = file.with_name("bank-jwks.json")
    jwks.write_bytes((await stage.http.get(f"{stage.url}/.well-known/statement-keys")).content)
    accepted = await asyncio.to_thread(_verify, file, jwks, partner_id) == 0
    stage.checks.expect("the statement verifies offline, every cent of it", accepted, file.name)
    refused = await asyncio.to_thread(_forged_is_refused, file, jwks, partner_id)
    stage.checks.expect("a copy with one digit changed is refused", refused, file.name)
    return accepted and refused


def _forged_is_refused(file: Path, jwks: Path, partner_id: str) -> bool:
    forged = file.with_suffix(".forged.json")
    forged.write_bytes(_one_digit_changed(file.read_bytes()))
    try:
        return _verify(forged, jwks, partner_id) == 1
    finally:
        forged.unlink()


def _verify(file: Path, jwks: Path, partner_id: str) -> int:
    pins = ["--jwks", str(jwks), "--partner", partner_id]
    command = [sys.executable, "-m", "gateway.settlement.verify", str(file), *pins]
    return subprocess.run(command, capture_output=True, check=False).returncode  # noqa: S603 - our own program


def _one_digit_changed(content: bytes) -> bytes:
    """The last amount of a line, up by one."""
    at = content.rindex(b'"amount_minor":') + len(b'"amount_minor":')
    at += content[at : at + 1] == b"-"
    digit = content[at : at + 1]
    return content[:at] + (b"1" if digit != b"1" else b"2") + content[at + 1 :]


async def look_around(stage: Stage) -> Table:
    """Metrics, probes, the audit trail, the book."""
    page = (await stage.http.get(f"{stage.url}/metrics")).text
    for name in METRICS:
        stage.checks.expect(f"/metrics shows {name}", f"\n{name}{{" in page or f"\n{name} " in page)
    for path in ("/healthz", "/readyz", "/portal", "/console"):
        answer = await stage.http.get(f"{stage.url}{path}")
        stage.checks.expect(f"{path} answers", answer.status_code in (200, 303), answer.status_code)
    entries = (await _ok(stage.checker, "GET", "/audit"))["Entry"]
    stage.checks.expect("the audit trail names who issued", any(e["Action"] == "statement.issued" for e in entries))
    book = await _ok(stage.checker, "GET", "/trial-balance")
    sums = book["Sum"]
    stage.checks.expect("debits equal credits", sums["DebitMinor"] == sums["CreditMinor"], sums)
    table = Table("Account", "Debit", "Credit", title="The book · 总账 (minor units)")
    for row in book["Account"]:
        table.add_row(row["Account"], str(row["DebitMinor"]), str(row["CreditMinor"]))
    table.add_row("sum · 合计", str(sums["DebitMinor"]), str(sums["CreditMinor"]), style="bold")
    return table


async def _ok(operator: Operator, method: str, path: str, body: Any = None) -> dict[str, Any]:
    response: httpx.Response = await operator.call(method, path, body)
    if response.status_code >= 300:
        raise CallFailed(response)
    return dict(response.json()["Data"])
