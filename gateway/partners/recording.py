"""Recording a contract version: when one may be, and the sealed event that says that it is known from here on.

Every worker prices by its own picture and settlement by the sealed order, so the two must agree whatever a worker has
not heard of yet. A later version therefore starts on a later business day than the one it is recorded in, and at least
START_MARGIN_MS after it is recorded (docs/settlement-rules.md §4 asks for 60 s; here is what makes them enough).
"""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta

from gateway.clock import to_ms
from gateway.document import DocumentInvalid
from gateway.events.outbox import Event
from gateway.partners.contract import Contract, term_ms
from gateway.partners.store import Version

PICTURE_LIMIT_S = 60  # a worker whose picture may be older than this answers nothing (snapshot.py)
SKEW_MS = 60_000  # a fact may say that it happened this far ahead of our clock
CLOCKS_MS = 60_000  # between the clocks of our own machines, generously
APPLY_LIMIT_S = 120  # from reading the clock to the commit; then everything is rolled back
START_MARGIN_MS = SKEW_MS + CLOCKS_MS + (PICTURE_LIMIT_S + APPLY_LIMIT_S) * 1000


def check_recordable(
    contract: Contract, *, file: str, partner_id: str, applied: Sequence[Version], day: date, now_ms: int
) -> None:
    """Whether this version may be recorded now, in business day `day`. `applied`: every contract version of anybody.

    All versions of a partner's first apply may start before. Raises DocumentInvalid, which says what to write instead.
    """
    owner = next((v.partner_id for v in applied if v.id == contract.contract_id), partner_id)
    if owner != partner_id:
        raise DocumentInvalid(file, "$.contract.id", f"is the id of a contract of {owner}")
    own = [version for version in applied if version.partner_id == partner_id]
    if not own:
        return
    last = own[-1]
    if last.id != contract.contract_id:
        raise DocumentInvalid(
            file, "$.contract.id",
            f"is not {last.id}; a partner has one contract for good, and new terms are its version {last.version + 1}",
        )  # fmt: skip
    if contract.version < last.version:
        raise DocumentInvalid(
            file, "$.contract.version", f"is {contract.version}, but version {last.version} has been applied already"
        )
    if contract.contract.valid_from <= day or term_ms(contract)[0] < now_ms + START_MARGIN_MS:
        raise DocumentInvalid(
            file, "$.contract.valid_from",
            f"is {contract.contract.valid_from}; version {last.version} has been applied already, and a later one "
            f"starts on a later business day than this one, {day}, and at least {START_MARGIN_MS // 60_000} minutes "
            f"from now: write {earliest_start(contract, day=day, now_ms=now_ms)} or later",
        )  # fmt: skip


def earliest_start(contract: Contract, *, day: date, now_ms: int) -> date:
    """The first `valid_from` that a later version may have."""
    start = day + timedelta(days=1)
    while to_ms(datetime.combine(start, time(), contract.zone)) < now_ms + START_MARGIN_MS:
        start += timedelta(days=1)
    return start


def effective_event(contract: Contract, *, partner_id: str, sha256: bytes, now_ms: int) -> Event:
    """`contract.effective`, §2: the version is known to settlement from this event on, with exactly this document."""
    start, end = term_ms(contract)
    return Event(
        "contract.effective", now_ms, {"sha256": sha256.hex(), "start_ms": start, "end_ms": end}, partner=partner_id,
        contract=contract.contract_id, contract_version=contract.version, currency=contract.currency,
    )  # fmt: skip


def term_told(contract: Contract, earlier: Sequence[Contract]) -> str:
    """For people: when the version is in force, and which of the earlier ones never will be any more."""
    head = contract.contract
    start, end = term_ms(contract)
    told = f"in force from {head.valid_from}" + (f" to {head.valid_to}" if head.valid_to else "")
    hidden = [str(e.version) for e in earlier if start <= term_ms(e)[0] and term_ms(e)[1] <= end]
    return told + (f"; replaces version {', '.join(hidden)} wholly" if hidden else "")
