"""What referrals speak of: terms, touches, claims, batches, links; frozen, without HTTP, clock or SQL."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum


class Evidence(StrEnum):
    """How a touch was witnessed. The contract says which kinds count, the bank says which outranks which."""

    SIGNED_SCAN = "signed_scan"  # the customer followed a link that the bank signed, and the bank's app says so
    CLICK_ID = "click_id"
    BATCH = "batch"  # the partner says so in a file
    CODE = "code"


class Pick(StrEnum):
    """Of two touches of the same kind, which one counts."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class ReferralTerms:
    """The referral part of a contract version in force, in the units that the rule computes with."""

    partner_id: str
    contract_id: str
    version: int
    currency: str
    order: tuple[Evidence, ...]
    pick: Pick
    lookback_ms: int
    post_window_ms: int
    exclusive_for: frozenset[str]  # the goals with which an owner's time begins
    min_gap_ms: int
    late_ms: int
    no_account_since_ms: int | None  # an account that ended so long ago excludes nobody; None: any account does
    paid_for: frozenset[str]  # the goals that this version has a commission for


TermsBook = Callable[[str, int], ReferralTerms | None]  # (partner_id, at_ms): the version in force then, if any


class Unreadable(Enum):
    """Terms that are there and that this program cannot read: what depends on them waits."""

    TERMS = "terms_unreadable"


@dataclass(frozen=True, slots=True)
class Touch:
    """One line of the touch log. `occurred_at_ms` is when the customer was met, `recorded_at_ms` when we heard."""

    touch_id: int
    partner_id: str
    claim_id: str
    evidence: Evidence
    occurred_at_ms: int
    recorded_at_ms: int
    campaign: str = ""
    customer_token: str = ""


@dataclass(frozen=True, slots=True)
class Tenure:
    """A time in which the person has had an account at the bank; `until_ms` None: still."""

    since_ms: int
    until_ms: int | None


@dataclass(frozen=True, slots=True)
class Joining:
    """A person becomes a customer: the moment as of which it is decided who brought them."""

    customer_id: str
    joined_at_ms: int
    tenures: tuple[Tenure, ...]

    @property
    def key(self) -> tuple[str, int]:
        return self.customer_id, self.joined_at_ms


@dataclass(frozen=True, slots=True)
class GoalReached:
    """An event of the bank's feed: this customer opened an account, activated a card, spent money.

    `phone` is the one with which the person joined; `tenures` are the times with an account, in order; `first_at_ms` is
    when the customer first reached this goal since joining. All three are the bank's knowledge, not the telling's.
    """

    bank_event_id: str
    goal: str
    customer_id: str
    phone: str
    amount_minor: int
    currency: str
    occurred_at_ms: int
    tenures: tuple[Tenure, ...]
    first_at_ms: int
    scan_ticket: str = ""

    def __repr__(self) -> str:
        return f"GoalReached({self.bank_event_id}, {self.goal})"  # the phone is C2: not for logs

    @property
    def joined_at_ms(self) -> int:
        """The beginning of the tenure in which it happened: the last one that had begun."""
        return max(tenure.since_ms for tenure in self.tenures if tenure.since_ms <= self.occurred_at_ms)


class ClaimState(StrEnum):
    """As the bank sees it: ELIGIBLE → OWNING → CONVERTED, or LOST, or EXCLUDED; EXPIRED when its time has passed."""

    ELIGIBLE = "ELIGIBLE"
    EXCLUDED = "EXCLUDED"  # its touches did not count when the customer joined, or were made after that
    OWNING = "OWNING"  # the customer was brought by this claim
    CONVERTED = "CONVERTED"  # and reached a further goal within the post window
    LOST = "LOST"  # decided for another claim
    EXPIRED = "EXPIRED"


class Fate(StrEnum):
    """All that its partner sees of a claim. Whoever has not paid looks alike: a stranger, a customer, another's."""

    RECORDED = "RECORDED"
    PAID = "PAID"  # a goal was reached that a commission is due for


@dataclass(frozen=True, slots=True)
class Claim:
    """A partner's claim on one customer token. `customer_id` is the bank's and never leaves the house."""

    claim_id: str
    partner_id: str
    customer_token: str
    state: ClaimState
    reason: str | None
    recorded_at_ms: int
    told_until_ms: int | None
    expires_at_ms: int
    customer_id: str | None
    joined_at_ms: int | None
    paid_at_ms: int | None

    @property
    def fate(self) -> Fate:
        return Fate.RECORDED if self.paid_at_ms is None else Fate.PAID

    @property
    def shown_until_ms(self) -> int:
        """Until it pays, what follows from the partner's own files and nothing else."""
        if self.paid_at_ms is None and self.told_until_ms is not None:
            return self.told_until_ms
        return self.expires_at_ms


class BatchState(StrEnum):
    """DECLARED → RECEIVED (the whole file is here) → APPLYING (by chunks) → APPLIED."""

    DECLARED = "DECLARED"
    RECEIVED = "RECEIVED"
    APPLYING = "APPLYING"
    APPLIED = "APPLIED"


@dataclass(frozen=True, slots=True)
class Batch:
    """A declared file of touches and how far it has come."""

    batch_id: str
    partner_id: str
    out_number: str
    row_count: int
    file_sha256: bytes
    control_total: int
    state: BatchState
    declared_at_ms: int
    received_at_ms: int | None
    applied_at_ms: int | None
    cursor_row: int
    ok_count: int
    error_count: int
    excluded_count: int


class RowOutcome(StrEnum):
    """OK made a touch; ERROR is a malformed row; EXCLUDED is well formed and adds nothing."""

    OK = "OK"
    ERROR = "ERROR"
    EXCLUDED = "EXCLUDED"


# Stable codes of a row's result. All of them follow from the partner's own file, claims and contract: none depends on
# who banks here or on what other partners claim, so a file cannot be used to ask.
ROW_CODES: dict[str, RowOutcome] = {
    "OK": RowOutcome.OK,
    "TOKEN_MALFORMED": RowOutcome.ERROR,
    "TOKEN_EPOCH_UNKNOWN": RowOutcome.ERROR,
    "CONSENT_MISSING": RowOutcome.ERROR,
    "CONSENT_MALFORMED": RowOutcome.ERROR,
    "TOUCHED_AT_MALFORMED": RowOutcome.ERROR,
    "TOUCHED_IN_FUTURE": RowOutcome.ERROR,
    "TOO_LATE": RowOutcome.EXCLUDED,
    "SITE_UNKNOWN": RowOutcome.ERROR,
    "NOT_IN_CONTRACT": RowOutcome.EXCLUDED,
    "OUTSIDE_LOOKBACK": RowOutcome.EXCLUDED,
    "DUPLICATE_IN_FILE": RowOutcome.EXCLUDED,
    "ALREADY_CLAIMED_BY_YOU": RowOutcome.EXCLUDED,
}


@dataclass(frozen=True, slots=True)
class RowResult:
    """What became of one row; row 1 is the first line after the header."""

    row_no: int
    code: str
    claim_id: str | None

    @property
    def outcome(self) -> RowOutcome:
        return ROW_CODES[self.code]


@dataclass(frozen=True, slots=True)
class Link:
    """A link signed by the bank. `landing` names one of the bank's own pages."""

    link_id: str
    partner_id: str
    landing: str
    campaign: str
    site: str
    created_at_ms: int
    expires_at_ms: int
    jws_header: str
    jws_signature: str
