"""`parasol verify`, and `python -m verify` at the partner's: arguments in, a table for people and an exit code out."""

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .canonical import shown
from .series import FileReport, Report, Unusable, verify_files

ACCEPTED, REFUSED, UNUSABLE = 0, 1, 2
JWKS_LIMIT = 1 << 20  # bytes
_DIGITS = {"JPY": 0}  # all others have two; only for showing, nothing is computed with it
_TOTALS = {
    "bank_owes_minor": "bank owes", "partner_owes_minor": "partner owes", "net_minor": "net",
    "carried_in_minor": "carried in", "payable_minor": "to be paid", "carried_out_minor": "carried out",
}  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """0 all accepted, 1 something refused, 2 unusable arguments."""
    parser = argparse.ArgumentParser(
        prog="verify", description="Recompute statements offline, every cent and every proof. 离线核对对账单。"
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="statements, in any order")
    parser.add_argument("--jwks", metavar="FILE", help="the bank's keys, kept from before: no other key is accepted")
    try:
        given = parser.parse_args(list(argv))
    except SystemExit as leaving:
        return UNUSABLE if leaving.code else ACCEPTED
    gc.disable()  # millions of small values without a cycle among them: collecting would take half of the time
    try:
        report = verify_files(given.files, jwks=_read_jwks(given.jwks))
    except Unusable as error:
        _say(f"verify: {shown(str(error), limit=500)}", sys.stderr)
        return UNUSABLE
    finally:
        gc.enable()
    _say(render(report), sys.stdout)
    return ACCEPTED if report.accepted else REFUSED


def _read_jwks(name: str | None) -> dict[str, Any] | None:
    if name is None:
        return None
    try:
        if Path(name).stat().st_size > JWKS_LIMIT:
            raise Unusable(f"{name} has more than {JWKS_LIMIT} bytes")
        found = json.loads(Path(name).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Unusable(f"{name} is not a readable JWKS: {error}") from None
    if not isinstance(found, dict):
        raise Unusable(f"{name} is not a JWKS")
    return found


def render(report: Report) -> str:
    """The table, and the outcome in two languages."""
    refused = sum(not file.accepted for file in report.files)
    if refused:
        outcome = (
            f"REFUSED: {refused} of {len(report.files)} file(s). Do not settle on them.\n"
            f"拒绝：{refused} 份对账单核对不符，请勿据此结算。"
        )
    else:
        outcome = (
            f"ACCEPTED: {len(report.files)} file(s); every signature, proof, event, line and total was recomputed.\n"
            f"通过：{len(report.files)} 份对账单的签名、证明、明细与合计已全部重新计算，完全一致。"
        )
    return "\n".join([*(_file(file) for file in report.files), outcome])


def _file(file: FileReport) -> str:
    rows = [("file", file.path), ("sha256", file.sha256)]
    if file.statement_id:
        rows += [
            ("statement", f"{file.statement_id} (number {file.number})"), ("partner", file.partner),
            ("period", " to ".join(file.period)), ("events, lines", f"{file.events:,}, {file.lines:,}"),
        ]  # fmt: skip
    rows += [(name, _money(file.totals[key], file.currency)) for key, name in _TOTALS.items() if key in file.totals]
    rows += [("key", f"{s.thumbprint} {'pinned' if s.pinned else 'NOT PINNED'} ({s.kid})") for s in file.signers]
    rows += [("note", note) for note in file.notes]
    rows += [("FAULT", fault) for fault in file.faults]
    rows.append(("outcome", "accepted 通过" if file.accepted else "REFUSED 拒绝"))
    return "\n".join(f"{name:<14} {shown(value, limit=2000)}" for name, value in rows) + "\n"


def _money(minor: int, currency: str) -> str:
    digits = _DIGITS.get(currency, 2)
    whole, rest = divmod(abs(minor), 10**digits)
    amount = f"{whole:,}.{rest:0{digits}d}" if digits else f"{whole:,}"
    return f"{'-' if minor < 0 else ''}{amount} {currency}"


def _say(text: str, stream: Any) -> None:
    """A terminal that knows no Chinese gets question marks, and no stack trace."""
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), file=stream)
