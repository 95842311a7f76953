"""A decision in words, English and Chinese: why this partner and not that one.

The bank reads every name. A partner reads about its own touches in full; of the others it learns the reason that
decided, never who they are or when they met the customer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.clock import rfc3339
from gateway.referrals.attribution import RIVALRY_CODES, Step

WORDS: dict[str, tuple[str, str]] = {
    "won": (
        "{who} brought the customer: {evidence} of {occurred_at}", "{who}获得归属：依据为 {occurred_at} 的 {evidence}",
    ),
    "evidence_outranked": ("not {who}: {winner} outranks {loser}", "{who}未获归属：{winner} 的证据级别高于 {loser}"),
    "later_touch_counts": (
        "not {who}: of equal evidence the later touch counts", "{who}未获归属：同级证据以较晚的触达为准",
    ),
    "earlier_touch_counts": (
        "not {who}: of equal evidence the earlier touch counts", "{who}未获归属：同级证据以较早的触达为准",
    ),
    "received_later": (
        "not {who}: of touches at one moment the one received first counts",
        "{who}未获归属：同一时刻的触达以先收到者为准",
    ),
    "higher_id": ("not {who}: recorded after its equal", "{who}未获归属：与之相同者登记在先"),
    "own_evidence_outranked": (
        "of the touches of {who}, {winner} stands for it rather than {loser}",
        "{who}的触达中以 {winner} 为准，而非 {loser}",
    ),
    "own_later_touch_counts": (
        "of the touches of {who}, the one of {winner} stands for it, not the earlier one of {loser}",
        "{who}的触达中以 {winner} 的一次为准，而非较早的 {loser}",
    ),
    "own_earlier_touch_counts": (
        "of the touches of {who}, the one of {winner} stands for it, not the later one of {loser}",
        "{who}的触达中以 {winner} 的一次为准，而非较晚的 {loser}",
    ),
    "own_received_later": (
        "of the touches of {who} at one moment, the one received first stands for it",
        "{who}同一时刻的触达以先收到者为准",
    ),
    "own_higher_id": ("of equal touches of {who}, the first recorded stands for it", "{who}相同的触达以登记在先者为准"),
    "no_contract": ("{who} does not count: no contract was in force", "{who}不计入：当时没有生效的合同"),
    "goal_not_agreed": (
        "{who} does not count: its contract competes for no customers", "{who}不计入：其合同不参与客户归属",
    ),
    "evidence_not_agreed": (
        "{who} does not count: its contract does not name {evidence}", "{who}不计入：其合同未列明 {evidence}",
    ),
    "had_account": (
        "{who} does not count: recorded at {recorded_at}, when the person had had an account since {since}",
        "{who}不计入：登记时间 {recorded_at}，该客户自 {since} 起已有账户",
    ),
    "outside_lookback": (
        "{who} does not count: the touch of {occurred_at} lies further back than the contract's look-back",
        "{who}不计入：{occurred_at} 的触达超出合同回溯期",
    ),
}  # fmt: skip
_TIMES = frozenset(("occurred_at", "recorded_at", "since", "joined_at"))
_BANK_ONLY = frozenset(("had_account",))  # who banks here is nobody else's business, before or after


@dataclass(frozen=True, slots=True)
class Sentence:
    """One line of the trace; `code` is stable, the words may be bettered."""

    code: str
    english: str
    chinese: str


def explain(steps: Iterable[Step], *, viewer: str | None) -> tuple[Sentence, ...]:
    """The trace for a partner, or with every name for the bank (`viewer` None)."""
    return tuple(_sentence(step, viewer) for step in steps if viewer is None or _may_read(step, viewer))


def _may_read(step: Step, viewer: str) -> bool:
    return step.code not in _BANK_ONLY and (step.partner_id == viewer or step.code in RIVALRY_CODES)


def _sentence(step: Step, viewer: str | None) -> Sentence:
    english, chinese = WORDS[step.code]
    facts = {name: _shown(step.code, name, value) for name, value in step.facts.items()}
    who, who_zh = _names(step.partner_id, viewer)
    return Sentence(step.code, english.format(who=who, **facts), chinese.format(who=who_zh, **facts))


def _shown(code: str, name: str, value: object) -> object:
    is_time = name in _TIMES or code.removeprefix("own_") in ("later_touch_counts", "earlier_touch_counts")
    return rfc3339(value) if is_time and isinstance(value, int) else value


def _names(partner_id: str, viewer: str | None) -> tuple[str, str]:
    if viewer is None:
        return partner_id, partner_id
    return ("your claim", "贵方申报") if partner_id == viewer else ("another partner's claim", "其他合作方的申报")
