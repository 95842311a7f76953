"""Which partners can have brought a customer: a phone is hashed under the keys of those, and of nobody else.

A partner is asked about a person if a touch of it may stand as of the moment the person joined, if one is open today
(then the bank sees why it is worth nothing), or if a file of it is not applied. All that follows from what the partner
itself has told, and nothing of it from who banks here.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from gateway.referrals.model import ReferralTerms, TermsBook, Unreadable
from gateway.referrals.store.spans import Span
from gateway.referrals.terms import terms_or_wait

GRID_MS = 900_000  # terms begin and end at local midnights, and those lie on quarters of an hour
MOMENTS_MOST = 8  # looked at for a partner; of more, no look-back is asked
FOR_EVER_MS = 2**62


@dataclass(frozen=True, slots=True)
class Candidates:
    """`always` are asked about everybody; `closed` are those with nothing open today, each with the last joining that
    its touches may have brought."""

    always: frozenset[str]
    closed: tuple[tuple[Span, int], ...]

    def of(self, joined_at_ms: int) -> frozenset[str]:
        """The partners to ask about a person who joined then."""
        more = [
            span.partner_id
            for span, until_ms in self.closed
            if span.first_recorded_ms < joined_at_ms <= until_ms
        ]  # fmt: skip
        return self.always.union(more) if more else self.always

    def and_of(self, others: "Candidates") -> "Candidates":
        return Candidates(self.always | others.always, self.closed + others.closed)


def candidates(
    spans: Iterable[Span], with_files: Collection[str], *, joined_at_ms: Iterable[int], terms: TermsBook, now_ms: int
) -> Candidates:
    """For people who joined at these moments."""
    moments = sorted({at_ms // GRID_MS * GRID_MS for at_ms in joined_at_ms})
    always, closed = set(with_files), []
    for span in spans:
        if _until_ms(span, (now_ms,), terms) >= now_ms:
            always.add(span.partner_id)
            continue
        later = moments[bisect_right(moments, span.first_recorded_ms - GRID_MS) :]
        if later:
            until_ms = _until_ms(span, later, terms)
            if until_ms >= later[0]:
                closed.append((span, until_ms))
    return Candidates(frozenset(always), tuple(closed))


def _until_ms(span: Span, moments: Sequence[int], terms: TermsBook) -> int:
    if len(moments) > MOMENTS_MOST:
        return FOR_EVER_MS
    found = (terms_or_wait(terms, span.partner_id, at_ms=at_ms) for at_ms in moments)
    return span.last_occurred_ms + max(map(_lookback_ms, found))


def _lookback_ms(terms: ReferralTerms | Unreadable | None) -> int:
    """Without a contract no touch counts; one that cannot be read may say anything."""
    if isinstance(terms, Unreadable):
        return FOR_EVER_MS
    return terms.lookback_ms if terms is not None else 0
