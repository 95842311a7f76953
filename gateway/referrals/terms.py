"""The referral part of the contracts, as the rules read it."""

from collections.abc import Callable

from gateway.partners.contract import Contract
from gateway.referrals.model import Evidence, Pick, ReferralTerms, TermsBook, Unreadable
from gateway.refusal import Refusal

DAY_MS = 86_400_000


def terms_book(contract_at: Callable[[str, int], Contract | None]) -> TermsBook:
    """Looks up the version in force; None where there is no contract, or one without [attribution]."""
    known: dict[tuple[str, str, int], tuple[Contract, ReferralTerms | None]] = {}

    def terms(partner_id: str, at_ms: int) -> ReferralTerms | None:
        """Each version is read once: its name finds it, as hashing a whole contract costs more than reading it."""
        contract = contract_at(partner_id, at_ms)
        if contract is None:
            return None
        place = partner_id, contract.contract_id, contract.version
        found = known.get(place)
        if found is None or found[0] is not contract:
            found = known[place] = contract, referral_terms(partner_id, contract)
        return found[1]

    return terms


def referral_terms(partner_id: str, contract: Contract) -> ReferralTerms | None:
    agreed = contract.attribution
    if agreed is None:
        return None
    return ReferralTerms(
        partner_id=partner_id,
        contract_id=contract.contract_id,
        version=contract.version,
        currency=contract.currency,
        order=tuple(map(Evidence, agreed.order)),
        pick=Pick(agreed.pick),
        lookback_ms=agreed.lookback_ms,
        post_window_ms=agreed.post_window_ms,
        exclusive_for=frozenset(agreed.exclusive_for),
        min_gap_ms=agreed.min_gap_ms,
        late_ms=contract.settle.late_days * DAY_MS,
        no_account_since_ms=agreed.no_account_since_ms,
        paid_for=frozenset(commission.goal for commission in contract.commission),
    )


def terms_or_wait(terms: TermsBook, partner_id: str, *, at_ms: int) -> ReferralTerms | Unreadable | None:
    """The version in force then, none, or one that is there and cannot be read: that is no reason to pay nothing."""
    try:
        return terms(partner_id, at_ms)
    except Refusal as refusal:
        if refusal.code != Unreadable.TERMS.value:
            raise
        return Unreadable.TERMS


def is_readable(terms: ReferralTerms | Unreadable | None) -> bool:
    return not isinstance(terms, Unreadable)
