"""Which events of the bank's feed cannot be: they are set aside with a reason, so that one never stops the rest."""

import re
from collections.abc import Sequence

from gateway.clock import CLOCK_SKEW_MS, EARLIEST_MS
from gateway.partners.identity import PhoneMalformed, normalise_phone
from gateway.referrals.model import GoalReached, Tenure

LONG_AGO_MS = -5_364_662_400_000  # the year 1800: an account may be older than our facts
AMOUNT_LIMIT = 10**15  # minor units of one spend: more is a slip of the comma
_ID = re.compile(r"[!-~]{1,100}", re.ASCII)  # printable, as it is in our tables, addresses and logs
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_GOALS = frozenset(("ACCOUNT_OPENED", "CARD_ACTIVATED", "SPEND"))


def why_not(goal: GoalReached, *, now_ms: int) -> str | None:
    """A word for what cannot be, from a closed set; None: the event can be judged."""
    latest_ms = now_ms + CLOCK_SKEW_MS
    if not (_ID.fullmatch(goal.bank_event_id) and _ID.fullmatch(goal.customer_id)):
        return "id_malformed"
    if goal.goal not in _GOALS:
        return "goal_unknown"
    if not EARLIEST_MS <= goal.occurred_at_ms <= latest_ms:
        return "moment_out_of_range"
    if not (0 <= goal.amount_minor <= AMOUNT_LIMIT and _CURRENCY.fullmatch(goal.currency)):
        return "amount_malformed"
    if not (_are_in_order(goal.tenures, latest_ms=latest_ms) and goal.tenures[0].since_ms <= goal.occurred_at_ms):
        return "no_account_then"
    if not goal.joined_at_ms <= goal.first_at_ms <= goal.occurred_at_ms:
        return "first_out_of_order"
    try:
        normalise_phone(goal.phone)
    except PhoneMalformed:
        return "phone_malformed"
    return None


def _are_in_order(tenures: Sequence[Tenure], *, latest_ms: int) -> bool:
    """One after the other, each ending after its beginning, the last perhaps not."""
    moments = [moment for tenure in tenures for moment in (tenure.since_ms, tenure.until_ms)]
    if moments and moments[-1] is None:
        moments.pop()
    known = [moment for moment in moments if moment is not None]
    return (
        len(known) == len(moments) > 0 and known == sorted(known) and known[0] >= LONG_AGO_MS and known[-1] <= latest_ms
    )
