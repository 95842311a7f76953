"""What every page has, whoever asks for it and whatever the answer: a viewport, one title, one language, a way on."""

import re
from html.parser import HTMLParser

import httpx
import pytest

from gateway.call import Protocol
from gateway.problem import render
from gateway.referrals.qr import qr_png, qr_svg
from gateway.refusal import Refusal, StateConflict
from gateway.routes import OPERATIONS
from tests.conftest import World
from tests.contract.own import OPENAPI

FIXED = [
    row.path for row in OPERATIONS if row.protocol is Protocol.PAGE and row.method == "GET" and "{" not in row.path
]
FORMS = [row.path for row in OPERATIONS if row.protocol is Protocol.PAGE and row.method == "POST"]
OTHERS = [
    *(f"/portal/reference/{path.stem}" for path in sorted(OPENAPI.glob("*.yaml"))),
    "/portal/reference/nothing", "/console/nothing", "/r/nonsense", "/r/", "/language/xx", "/portal?x=%00",
    "/sandbox/v1/landings/open-account", "/sandbox/v1/landings/nothing",
    "/sandbox/v1/landings/open-account?ScanTicket=<b>",
]  # fmt: skip
CHINESE = re.compile(r"[\u4e00-\u9fff]")


class Read(HTMLParser):
    """The few things of a page that are asked for here; `texts` by tag, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.language, self.viewport = "", ""
        self.texts: dict[str, list[str]] = {}
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "html":
            self.language = given.get("lang") or ""
        if tag == "meta" and given.get("name") == "viewport":
            self.viewport = given.get("content") or ""
        if tag == "a":
            self.links.append(given.get("href") or "")
        if tag not in ("meta", "link", "input", "br", "img"):
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data


def check(answer: httpx.Response, language: str) -> Read:
    assert answer.headers["content-type"].startswith("text/html")
    page = Read(answer.text)
    assert page.language == language
    assert page.viewport == "width=device-width, initial-scale=1"
    assert re.fullmatch(r"\S.* · Parasol", page.texts["title"][0])
    assert len(page.texts["h1"]) == 1
    title = page.texts["h1"][0].strip()
    assert title
    assert title not in [text.strip() for tag in ("p", "h2", "legend") for text in page.texts.get(tag, [])]
    assert bool(CHINESE.search(title + page.texts["title"][0])) == (language != "en") or "/reference/" in str(
        answer.url
    )
    return page


@pytest.mark.parametrize("language", ["en", "zh-CN"])
@pytest.mark.parametrize("path", [*FIXED, *OTHERS])
async def test_a_page_has_a_viewport_one_title_and_one_language(shared_world: World, path: str, language: str) -> None:
    answer = await shared_world.http.get(path, headers={"Accept-Language": f"{language},fr;q=0.1"})
    check(answer, language)
    assert {"accept-language", "cookie"} <= set(answer.headers["vary"].split(", "))


@pytest.mark.parametrize("path", FORMS)
async def test_a_form_that_is_refused_has_them_too(shared_world: World, path: str) -> None:
    page = check(await shared_world.http.post(path, data={"csrf": "x"}, headers={"Accept-Language": "zh"}), "zh-CN")
    assert not any(link.startswith("/language") for link in page.links), "a form's answer cannot be asked for again"


async def test_who_comes_without_a_path_is_led_on(shared_world: World) -> None:
    page = check(await shared_world.http.get("/"), "en")
    assert {"/portal", "/consents", "/console"} <= set(page.links)
    for link in ("/portal", "/consents", "/console"):
        assert (await shared_world.http.get(link)).status_code in (200, 303)


async def test_a_page_that_refuses_leads_on(shared_world: World) -> None:
    assert "/" in check(await shared_world.http.get("/r/nonsense"), "en").links


@pytest.mark.parametrize("detail", ["", "The day is shut"])
def test_a_refusal_prints_its_title_once_and_its_detail_if_it_has_one(detail: str) -> None:
    text = render(StateConflict(detail), protocol="page", interaction_id="i").body.decode()
    assert text.count(StateConflict.title) == 1
    assert ("<p>The day is shut</p>" in text) == bool(detail)


def test_a_detail_cannot_bring_markup_into_a_page() -> None:
    text = render(Refusal("<script>alert(1)</script>"), protocol="page", interaction_id="i").body.decode()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("", "en"), ("zh", "zh-CN"), ("zh-Hans-CN,zh;q=0.9,en;q=0.8", "zh-CN"), ("en-GB,zh;q=0.5", "en"),
     ("zh;q=0.2,en;q=0.7", "en"), ("fr,de;q=0.5", "en"), ("fr,zh;q=0.3", "zh-CN"), ("zh;q=0", "en"),
     ("*", "en"), (";;,=,zh;q=x", "en"), ("x" * 10_000, "en")],
)  # fmt: skip
async def test_the_language_is_what_the_browser_prefers(shared_world: World, accepted: str, language: str) -> None:
    check(await shared_world.http.get("/", headers={"Accept-Language": accepted}), language)


async def test_a_reader_chooses_another_language_and_stays_on_the_page(world: World) -> None:
    page = check(await world.http.get("/portal/errors?x=1&y=%C3%A9"), "en")
    [choice] = [link for link in page.links if link.startswith("/language")]
    answer = await world.http.get(choice)
    assert (answer.status_code, answer.headers["location"]) == (303, "/portal/errors?x=1&y=%C3%A9")
    check(await world.http.get("/console", headers={"Accept-Language": "en"}), "zh-CN")


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example", "/\\evil.example", "evil", "/a\r\nb: c", "/é", ""]
)
async def test_choosing_a_language_leads_to_no_other_site(shared_world: World, to: str) -> None:
    answer = await shared_world.http.get("/language/zh-CN", params={"To": to})
    assert answer.headers["location"] == "/"
    shared_world.http.cookies.clear()


async def test_a_language_that_we_do_not_have_is_refused(shared_world: World) -> None:
    answer = await shared_world.http.get("/language/xx")
    assert answer.status_code == 404
    assert "set-cookie" not in answer.headers
    forged = await shared_world.http.get("/", headers={"Cookie": "parasol-language=xx"})
    check(forged, "en")


def test_a_qr_code_brings_its_own_white_ground() -> None:
    svg = qr_svg("https://bank.example/r/x").decode()
    size = int(re.findall(r'width="(\d+)"', svg)[0]) // 4
    assert re.search(rf'<path[^>]*fill="#fff"[^>]*d="M0 0h{size}v{size}h-{size}z"|'
                     rf'<path[^>]*d="M0 0h{size}v{size}h-{size}z"[^>]*fill="#fff"', svg), svg[:300]  # fmt: skip
    assert b"tRNS" not in qr_png("https://bank.example/r/x"), "no pixel of a PNG is transparent"
