"""The life of a statement, as rules: CALCULATED → approved by a maker and another person as checker → ISSUED."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from gateway.refusal import Refusal, StateConflict


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
    """A day of the future cannot be closed."""

    status, code, outcome = 409, "day_not_over", "conflict"
    title = "This business day has not begun"


class DayNotSealed(Refusal):
    """A statement needs its days sealed."""

    status, code, outcome = 409, "day_not_sealed", "conflict"
    title = "A day of this period is not sealed yet"


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


def check_closable(day: date, *, last: date) -> None:
    """`last` is the day that facts are recorded in at present: it may be closed early (what comes then belongs to the
    day after), a later one may not."""
    if day > last:
        raise DayNotOver(f"{day.isoformat()} is after {last.isoformat()}, the day that is open now")
