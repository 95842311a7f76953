"""The report as a table for people."""

from collections.abc import Mapping
from math import isqrt
from unicodedata import east_asian_width

from .canonical import shown
from .series import FileReport, Report, Signer

_DIGITS = {"JPY": 0}  # all others have two; only for showing, nothing is computed with it
_TOTALS = (
    "bank_owes_minor", "partner_owes_minor", "net_minor", "carried_in_minor", "payable_minor", "carried_out_minor",
)  # fmt: skip
_NAME_WIDTH = 16  # columns; a Chinese character takes two
FAR = 5  # standard deviations: chance goes beyond them once in millions of statements
_TEN_THOUSAND = 10_000


def render(report: Report, words: Mapping[str, str]) -> str:
    count, refused = len(report.files), sum(not file.accepted for file in report.files)
    kind = "some_refused" if refused else "all_accepted" if report.pinned else "all_unknown"
    rows = [_file(file, words) for file in report.files]
    return "\n".join([*rows, words[kind].format(count=count, refused=refused)])


def _file(file: FileReport, words: Mapping[str, str]) -> str:
    rows = [("file", file.path), ("sha256", file.sha256)]
    if file.statement_id:
        first, last = file.period
        rows += [
            ("statement", f"{file.statement_id} ({words['number'].format(number=file.number)})"),
            ("partner", file.partner), ("period", words["to"].format(first=first, last=last)),
            ("events", f"{file.events:,}"), ("lines", f"{file.lines:,}"),
        ]  # fmt: skip
    rows += [(key, _money(file.totals[key], file.currency)) for key in _TOTALS if key in file.totals]
    rows += [("drift", _drift(party, file=file, words=words)) for party in file.drift]
    rows += [("key", _key(signer, words)) for signer in file.signers]
    rows += [("note", words[kind].format(fact=fact)) for kind, fact in file.notes]
    rows += [("fault", fault) for fault in file.faults]
    outcome = "refused" if not file.accepted else "accepted" if file.pinned else "unknown"
    rows.append(("outcome", words[outcome]))
    return "\n".join(f"{_wide(words[name])} {shown(value, limit=2000)}" for name, value in rows) + "\n"


def _key(signer: Signer, words: Mapping[str, str]) -> str:
    return f"{signer.thumbprint} {words['pinned' if signer.pinned else 'unknown_key']} ({signer.kid})"


def _drift(party: str, *, file: FileReport, words: Mapping[str, str]) -> str:
    """§6, in the currency's units with two digits more than it has; the spread is one standard deviation."""
    drift, variance = file.drift[party]
    digits = _DIGITS.get(file.currency, 2) + 2
    spread = isqrt(variance)  # 10⁻⁴ of a minor unit, as drift is
    minor = [_decimal(abs(value) * 100 // _TEN_THOUSAND, digits) for value in (drift, spread)]
    text = words["drift_of"].format(
        party=words.get(party, party), drift=("-" if drift < 0 else "+") + minor[0], spread=minor[1],
        currency=file.currency,
    )  # fmt: skip
    return text + (words["drift_far"] if drift * drift > FAR * FAR * variance and abs(drift) > _TEN_THOUSAND else "")


def _money(minor: int, currency: str) -> str:
    return f"{'-' if minor < 0 else ''}{_decimal(abs(minor), _DIGITS.get(currency, 2))} {currency}"


def _decimal(value: int, digits: int) -> str:
    whole, rest = divmod(value, 10**digits)
    return f"{whole:,}.{rest:0{digits}d}" if digits else f"{whole:,}"


def _wide(name: str) -> str:
    taken = sum(2 if east_asian_width(char) in "WF" else 1 for char in name)
    return name + " " * max(_NAME_WIDTH - taken, 0)
