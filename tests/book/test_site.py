"""The site as a reader meets it: in a browser, on a desk and on a phone, by day and by night."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest
from tests.book.browser import Page
from tests.book.conftest import SITE

pytestmark = pytest.mark.book

PAGES = sorted(file.relative_to(SITE).as_posix() for file in SITE.rglob("*.html"))
READ = [name for name in PAGES if not name.startswith("source/") and name != "404.html"]
PICTURES = SITE.parent / "screenshots"
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}
CODE = {"code", "pre", "script", "style", "svg"}
MARKUP = re.compile(r"\| ?---|\n\| |```|\*\*|\n- \w|\n\d+\. \w|\]\(|`")  # left where it was not understood
ELSEWHERE = re.compile(r"(https?:)?//")
OUTSIDE = re.compile(r"""@import|url\(\s*["']?(?:https?:)?//""")


class Document(HTMLParser):
    """What a page links to, loads and names, and its text outside of code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.prose = ""
        self._code = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._code += tag in CODE
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag in LOADED and LOADED[tag] in values and values.get("rel") not in {"canonical", "prev", "next"}:
            self.loads.append(values[LOADED[tag]])

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in CODE

    def handle_data(self, data: str) -> None:
        self.prose += "" if self._code else data


def documents() -> dict[str, Document]:
    return {name: Document((SITE / name).read_text()) for name in PAGES}


@pytest.fixture(scope="module")
def parsed() -> dict[str, Document]:
    assert len(READ) > 30
    return documents()


def test_every_link_and_every_anchor_holds(parsed: dict[str, Document]) -> None:
    broken = []
    for name, document in parsed.items():
        for link in (*document.links, *document.loads):
            target, anchor = urldefrag(urljoin(f"http://site/{name}", link))
            if not target.startswith("http://site/"):
                continue
            file = unquote(target.removeprefix("http://site/")) or "index.html"
            there = (SITE / file).is_file() or (SITE / file / "index.html").is_file()
            if not there or (anchor and file in parsed and unquote(anchor) not in parsed[file].anchors | {"__tabbed"}):
                broken.append(f"{name}: {link}")

    assert not broken


def test_no_markup_is_left_in_the_text(parsed: dict[str, Document]) -> None:
    left = [
        f"{name}: {document.prose[max(found.start() - 40, 0) : found.end() + 40]!r}"
        for name, document in parsed.items()
        for found in MARKUP.finditer(document.prose)
    ]

    assert not left


def test_nothing_is_loaded_from_elsewhere(parsed: dict[str, Document]) -> None:
    outside = [
        f"{name}: {one}" for name, page in parsed.items() for one in page.loads if re.match(r"(https?:)?//", one)
    ]
    outside += [str(file) for file in SITE.rglob("*.css") if OUTSIDE.search(file.read_text())]

    assert not outside


@pytest.mark.parametrize("name", READ)
def test_a_page_renders_on_a_phone_and_on_a_desk(name: str, page: Page, address: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    for scheme, width, height in (("light", 1280, 800), ("dark", 390, 844)):
        page.color_scheme(scheme)
        page.size(width, height, phone=width < 400)
        page.open(f"{address}/{name}")

        assert page.complaints() == []
        assert [one for one in page.requests() if not one.startswith((address, "data:"))] == []
        assert page.run("document.querySelector('article h1').getBoundingClientRect().width") > 100
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.run("document.body.dataset.mdColorScheme") == ("slate" if scheme == "dark" else "default")
        page.screenshot(PICTURES / f"{Path(name).stem}-{scheme}.png")


@pytest.mark.parametrize("word", ["idempotent", "backoff", "known_hosts"])
def test_the_search_finds_a_word(word: str, page: Page, address: str) -> None:
    page.size(1280, 800)
    page.open(f"{address}/index.html")
    page.run(
        "document.querySelector('[data-md-toggle=search]').click();"
        "document.querySelector('[data-md-component=search-query]').focus();"
        f"document.querySelector('[data-md-component=search-query]').value = '{word}';"
        "document.querySelector('[data-md-component=search-query]').dispatchEvent(new Event('keyup', {bubbles: true}))"
    )

    found = page.wait_for("[...document.querySelectorAll('.md-search-result__item a')].map(one => one.href)")

    assert any("glossary" in one for one in found)
    assert len(found) > 3
    assert word in page.run("document.querySelector('.md-search-result__list').textContent").lower()
    page.screenshot(PICTURES / f"search-{word}.png")


def test_a_reader_can_choose_the_dark_and_the_light(page: Page, address: str) -> None:
    page.size(1280, 800)
    page.color_scheme("light")
    page.open(f"{address}/index.html")
    schemes = []
    for _ in range(3):
        page.run("[...document.querySelectorAll('[data-md-component=palette] label')].find(one => !one.hidden).click()")
        schemes.append(page.run("document.body.dataset.mdColorScheme"))
    page.run("localStorage.clear()")

    assert {"default", "slate"} <= set(schemes)
