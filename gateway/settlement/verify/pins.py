"""Whose statements are expected (§12 cannot say it): keys that the partner holds from before, and its own name.

Pins come from the command, or else from `known-statements.json` in the file's folder, which `--remember` writes after a
run that was accepted with pinned keys.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .canonical import Refused, decoded, decoder, shown
from .found import Found
from .proof import read_key

KNOWN = "known-statements.json"
KNOWN_FORMAT = "parasol-known-statements-1"
PINS_LIMIT = 1 << 20  # bytes of a JWKS or a file of known statements
THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")  # RFC 7638 with SHA-256


class Unusable(Exception):
    """Arguments that nothing can be checked with."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a file must be: of this partner and bank, signed with one of these keys; None where nobody said.

    `pinned_by`: the folder's file that names the keys, empty where the command does.
    """

    thumbprints: frozenset[str] | None = None
    partner: str | None = None
    bank: str | None = None
    said_by: str = "the command"
    pinned_by: str = ""


def given(jwks: Mapping[str, Any] | None, thumbprints: Sequence[str], *, partner: str | None) -> Expected:
    """By the command. Raises Unusable."""
    for each in thumbprints:
        if THUMBPRINT.fullmatch(each) is None:
            raise Unusable(f"{shown(each)} is not a thumbprint of RFC 7638: 43 letters, digits, - and _")
    pinned = set(thumbprints) | (set() if jwks is None else read_jwks(jwks))
    return Expected(frozenset(pinned) if pinned else None, partner)


def read_jwks(jwks: Any) -> set[str]:
    """Thumbprints. All keys must be for statements: one that signs tokens proves nothing here."""
    documents = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(documents, list) or not documents:
        raise Unusable('the JWKS holds no key: {"keys": […]} is expected')
    found = set()
    for jwk in documents:
        if not isinstance(jwk, dict) or jwk.get("purpose") != "statement":
            raise Unusable(
                'the JWKS holds a key whose purpose is not "statement": it looks like the keys of access tokens; those '
                "of statements are at /.well-known/statement-keys of the bank"
            )
        try:
            found.add(read_key(jwk).thumbprint)
        except Refused as refusal:
            raise Unusable(f"JWKS: {refusal}") from None
    return found


def read_jwks_file(name: str) -> dict[str, Any]:
    return _read_object(Path(name), "a JWKS")


def _read_object(path: Path, what: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(PINS_LIMIT + 1)
        if len(raw) > PINS_LIMIT:
            raise Unusable(f"{path} has more than {PINS_LIMIT} bytes")
        found = decoded(raw, decoder(dict))
    except (OSError, ValueError, Refused) as error:
        raise Unusable(f"{path} is not readable as {what}: {error}") from None
    return found


# --- folders of known statements ------------------------------------------------------------------------------------
def expected_of(path: Path, command: Expected) -> Expected:
    """What the command says, and what it does not say from the file's folder. Raises Unusable."""
    known = read_known(path.parent)
    if known is None:
        return command
    return Expected(
        command.thumbprints or known.thumbprints, command.partner or known.partner,
        None if command.partner else known.bank, known.said_by if command.partner is None else command.said_by,
        pinned_by="" if command.thumbprints else known.said_by,
    )  # fmt: skip


def read_known(folder: Path) -> Expected | None:
    path = folder / KNOWN
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise Unusable(f"{path} cannot be read: {error}") from None
    if not path.is_file():  # a pipe that came with the statements would keep us waiting for good
        raise Unusable(f"{path} is not a file")
    found = _read_object(path, "a file of known statements")
    keys, partner, bank = found.get("keys"), found.get("partner"), found.get("bank")
    right = found.keys() == {"bank", "format", "keys", "partner"} and found["format"] == KNOWN_FORMAT
    if not (right and isinstance(keys, list) and isinstance(partner, str) and isinstance(bank, str) and keys):
        raise Unusable(f"{path} is not a file of known statements: it has bank, format {KNOWN_FORMAT}, keys, partner")
    if not all(isinstance(key, str) and THUMBPRINT.fullmatch(key) for key in keys):
        raise Unusable(f"{path}: keys are thumbprints of RFC 7638")
    return Expected(frozenset(keys), partner, bank, str(path))


def remember(found: Sequence[Found], pinned: Expected) -> None:
    """In every folder of these accepted files. Raises Unusable where a folder knows another partner's or bank's."""
    for each in found:
        folder = Path(each.name).parent
        known = read_known(folder)
        bank, partner = each.header["bank"], each.header["partner"]
        if known is not None and (known.bank, known.partner) != (bank, partner):
            raise Unusable(f"{folder / KNOWN} knows statements of {shown(known.partner)}, not of {shown(partner)}")
        keys = (pinned.thumbprints or frozenset()) | (known.thumbprints or frozenset() if known else frozenset())
        _write(folder / KNOWN, {"bank": bank, "format": KNOWN_FORMAT, "keys": sorted(keys), "partner": partner})


def _write(path: Path, content: Mapping[str, Any]) -> None:
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise Unusable(f"{path} cannot be written: {error}") from None
