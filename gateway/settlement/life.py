"""The life of days and statements, as rules: CALCULATED → approved by a maker, then by a checker → ISSUED."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from gateway.refusal import Refusal, StateConflict

FARTHEST_DAYS = 3_660  # how far a sandbox's business date may run ahead of the calendar: ten years


class ApprovalBySamePerson(Refusal):
    """Nobody checks what they made."""

    status, code, outcome = 403, "approval_by_same_person", "four_eyes"
    title = "Maker and checker must be two people"


class ApprovalRoleMissing(Refusal):
    """The operator does not have that role."""

    status, code, outcome = 403, "approval_role_missing", "four_eyes"
    title = "This operator may not approve in that role"


class ApprovalMissing(Refusal):
    """A statement is issued only after its two approvals."""

    status, code, outcome = 409, "approval_missing", "four_eyes"
    title = "The statement lacks the approval of a maker and a checker"


class DayNotOver(Refusal):
    """A day of the future cannot be closed, nor settled."""

    status, code, outcome = 409, "day_not_over", "conflict"
    title = "This business day has not begun"


class DayBehindHead(Refusal):
    """Heads are a chain: none is put in between."""

    status, code, outcome = 409, "day_behind_head", "conflict"
    title = "A later day is sealed, and this one was shut with it"


class DayNotSealed(Refusal):
    """A statement needs its days sealed."""

    status, code, outcome = 409, "day_not_sealed", "conflict"
    title = "A day of this period is not sealed yet"


class BusinessDateNotForward(Refusal):
    """A sandbox's date never goes back, as facts were recorded in it."""

    status, code, outcome = 409, "business_date_not_forward", "conflict"
    title = "The business date moves forward only"


class BusinessDateTooFar(Refusal):
    """A date that no test needs."""

    code, outcome = "business_date_too_far", "schema"
    title = "The business date runs at most ten years ahead of the calendar"


class CurrencyNotNamed(Refusal):
    """Statements exist per currency; with several, the operator says which."""

    status, code, outcome = 409, "currency_not_named", "conflict"
    title = "This partner has facts in several currencies"


class CurrencyWithoutFacts(Refusal):
    """No fact of the partner is in that currency."""

    status, code, outcome = 409, "currency_without_facts", "conflict"
    title = "This partner has no sealed facts in that currency"


@dataclass(frozen=True, slots=True)
class Approval:
    """Who approved in which role, and the SHA-256 of what."""

    role: str
    operator_id: str
    sha256: bytes


def check_approval(state: str, given: Sequence[Approval], *, role: str, operator_id: str, operator_role: str) -> None:
    """The maker first, then somebody else as checker. Raises StateConflict or a four-eyes refusal."""
    if state != "CALCULATED":
        raise StateConflict(f"A statement is approved when it is CALCULATED; this one is {state}")
    if operator_role != role:
        raise ApprovalRoleMissing(f"{operator_id} is a {operator_role}")
    if any(approval.operator_id == operator_id for approval in given):
        raise ApprovalBySamePerson(f"{operator_id} has approved this statement already")
    roles = {approval.role for approval in given}
    if role in roles:
        raise StateConflict(f"The {role}'s approval is there already")
    if role == "checker" and "maker" not in roles:
        raise ApprovalMissing("The maker approves first")


def state_after(given: Sequence[Approval]) -> str:
    return "APPROVED" if {approval.role for approval in given} == {"maker", "checker"} else "CALCULATED"


def check_issue(state: str) -> None:
    if state == "CALCULATED":
        raise ApprovalMissing()
    if state != "APPROVED":
        raise StateConflict(f"Only an APPROVED statement is issued; this one is {state}")


def check_refusable(state: str) -> None:
    """Maker or checker may say no until it is issued."""
    if state not in ("CALCULATED", "APPROVED"):
        raise StateConflict(f"A statement is refused when it is CALCULATED or APPROVED; this one is {state}")


def check_closable(day: date, *, business_date: date, last_head: date | None) -> None:
    """`day` is not sealed. What comes after an early closing belongs to the day after."""
    if day > business_date:
        raise DayNotOver(f"{day.isoformat()} is after {business_date.isoformat()}, the business date")
    check_in_order(day, last_head=last_head)


def check_in_order(day: date, *, last_head: date | None) -> None:
    """Raises DayBehindHead."""
    if last_head is not None and day < last_head:
        raise DayBehindHead(f"{last_head.isoformat()} is sealed, and closing it shut all days before it")


def check_move(day: date, *, before: date, today: date) -> None:
    """Of a sandbox's business date. Raises BusinessDateNotForward, BusinessDateTooFar."""
    if day <= before:
        raise BusinessDateNotForward(f"The business date is {before.isoformat()}; name a later day")
    if (day - today).days > FARTHEST_DAYS:
        raise BusinessDateTooFar(f"The calendar says {today.isoformat()}")


def statement_currency(wanted: str | None, *, of_facts: Sequence[str], of_contracts: Sequence[str]) -> str:
    """That of the facts; of the contract, where there are none yet. Raises CurrencyNotNamed, CurrencyWithoutFacts."""
    there = sorted(set(of_facts) or set(of_contracts))
    if wanted is not None:
        if wanted not in there:
            raise CurrencyWithoutFacts(f"There are facts in {', '.join(there) or 'no currency at all'}")
        return wanted
    if len(there) != 1:
        raise CurrencyNotNamed(f"Add Currency: one of {', '.join(there)}")
    return there[0]
