"""In which language a page is: the one that its reader chose here, else what the browser prefers of those we have."""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Protocol
from urllib.parse import quote

LANGUAGES = {"en": "English", "zh-CN": "中文"}  # BCP 47 tags, as `lang` has them; the first is for whoever names none
COOKIE = "parasol-language"
KEPT_S = 365 * 86_400
_HEADER_LIMIT = 200  # characters of Accept-Language that are read; browsers send a few dozen
_RANGE = re.compile(r"([A-Za-z]{1,8})(?:-[A-Za-z0-9-]*)?(?:\s*;\s*q=([01](?:\.[0-9]{0,3})?))?", re.ASCII)
_CHOSEN = re.compile(rf"(?:^|;\s*){COOKIE}=([A-Za-z-]{{2,8}})(?:;|$)", re.ASCII)


class PageRequest(Protocol):
    """What a page needs to know of the request that it answers; header names are in lower case."""

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]


asked: ContextVar[PageRequest | None] = ContextVar("asked", default=None)


def chosen() -> str:
    """The page's language: a tag of LANGUAGES."""
    request = asked.get()
    if request is None:
        return next(iter(LANGUAGES))
    cookie = _CHOSEN.search(request.headers.get("cookie", ""))
    if cookie is not None and cookie[1] in LANGUAGES:
        return cookie[1]
    return preferred(request.headers.get("accept-language", ""))


def preferred(accepted: str) -> str:
    """Of Accept-Language (RFC 9110 §12.5.4); the first of ours where it names none of them."""
    weights: dict[str, float] = {}
    for piece in accepted[:_HEADER_LIMIT].split(","):
        found = _RANGE.fullmatch(piece.strip())
        if found is not None:
            weights.setdefault(found[1].lower(), float(found[2] or 1))
    ours = {tag: weights.get(tag.partition("-")[0], 0.0) for tag in LANGUAGES}
    return max(ours, key=lambda tag: ours[tag])


def say(english: str, chinese: str) -> str:
    """The text in the page's language; English where nobody wrote a Chinese one."""
    return chinese if chinese and chosen() != "en" else english


def other_languages() -> list[tuple[str, str, str]]:
    """Tag, name and address that shows the present page in it; none for an answer to a form, which cannot be asked
    again."""
    request = asked.get()
    if request is None or request.method not in ("GET", "HEAD"):
        return []
    here = request.path + (f"?{request.query_string}" if request.query_string else "")
    own = chosen()
    return [(tag, name, f"/language/{tag}?To={quote(here)}") for tag, name in LANGUAGES.items() if tag != own]


def choice_cookie(tag: str) -> tuple[str, str]:
    """The header that keeps the choice in this browser. It holds no secret and opens nothing."""
    return "set-cookie", f"{COOKIE}={tag}; Path=/; HttpOnly; SameSite=Lax; Max-Age={KEPT_S}"
