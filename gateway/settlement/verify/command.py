"""`parasol verify`, and `python -m verify` at the partner's: arguments in, a table for people and an exit code out."""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from .canonical import shown
from .pins import Unusable, read_jwks_file
from .series import Report, verify_files
from .table import render
from .words import LANGUAGES, language

ACCEPTED, REFUSED, UNUSABLE, SIGNER_UNKNOWN = 0, 1, 2, 3
_EPILOG = (
    "Exit status: 0 accepted, signed by pinned keys; 1 refused; 2 could not be checked; 3 proofs hold, signer unknown."
)


def main(argv: Sequence[str]) -> int:
    try:
        asked = _parser().parse_args(list(argv))
    except SystemExit as leaving:
        return UNUSABLE if leaving.code else ACCEPTED
    words = LANGUAGES[language(asked.lang, os.environ)]
    try:
        report = _verified(asked)
        _say(render(report, words), sys.stdout)
        status = _status(report)
        if asked.remember and status == ACCEPTED:
            _say(words["remembered"], sys.stdout)
    except Unusable as error:
        with suppress(Unusable):
            _say(f"verify: {shown(str(error), limit=500)}", sys.stderr)
        return UNUSABLE
    return status


def _verified(asked: argparse.Namespace) -> Report:
    """Raises Unusable."""
    gc.disable()  # millions of small values without a cycle among them: collecting would take a third of the time
    try:
        return verify_files(
            asked.files, jwks=None if asked.jwks is None else read_jwks_file(asked.jwks), thumbprints=asked.key,
            partner=asked.partner, keep=asked.remember, workers=asked.workers,
        )  # fmt: skip
    finally:
        gc.enable()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="verify", epilog=_EPILOG,
        description="Recompute statements offline, every cent and every proof. 离线核对对账单。",
    )  # fmt: skip
    parser.add_argument("files", nargs="+", metavar="FILE", help="statements of one partner, in any order")
    parser.add_argument("--jwks", metavar="FILE", help="the bank's statement keys, kept from before (pins)")
    parser.add_argument(
        "--key", metavar="THUMBPRINT", action="append", default=[], help="a statement key's RFC 7638 thumbprint (pins)"
    )
    parser.add_argument("--partner", metavar="ID", help="refuse statements of anybody else")
    parser.add_argument(
        "--remember", action="store_true", help="keep bank, partner and pins in known-statements.json beside the files"
    )
    parser.add_argument("--lang", choices=sorted(LANGUAGES), help="language; that of LC_ALL or LANG otherwise")
    parser.add_argument("--workers", type=int, metavar="N", help="processes for large files; one a core otherwise")
    return parser


def _status(report: Report) -> int:
    if not report.accepted:
        return REFUSED
    return ACCEPTED if report.pinned else SIGNER_UNKNOWN


def _say(text: str, stream: Any) -> None:
    """A terminal that knows no Chinese gets question marks, and no stack trace. Raises Unusable: what nobody could
    read must not end as refused, or as accepted."""
    if stream is None:
        raise Unusable("the report cannot be written: the output is closed")
    encoding = stream.encoding or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), file=stream, flush=True)
    except OSError as error:
        with suppress(OSError):  # what is left in the stream goes nowhere: else leaving would stumble over it again
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise Unusable(f"the report cannot be written: {error}") from None
