"""What the site's source is made of: pages whose links lead within the site, and lists as the site wants them."""

from __future__ import annotations

from pathlib import Path

import pytest

from book import OTHER_PAGES, BrokenLinkError, indent_lists, stage

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "written, wanted",
    [
        ("text\n- a\n- b\n", "text\n\n- a\n- b\n"),
        ("- a\n  more\n- b\n", "- a\n    more\n- b\n"),
        ("1. a\n\n   ```sh\n   one\n     two\n   ```\n", "1. a\n\n    ```sh\n    one\n      two\n    ```\n"),
        ("1. a\n   - b\n     more\n2. c\n", "1. a\n    - b\n        more\n\n2. c\n"),
        ("1. a\n\n   b\n2. c\n", "1. a\n\n    b\n\n2. c\n"),
        ("- a\n\ntext\n", "- a\n\ntext\n"),
        ("```text\n- a\n  b\n```\n", "```text\n- a\n  b\n```\n"),
        ("a | b\n", "a | b\n"),
    ],
)
def test_lists_have_four_columns_for_each_level(written: str, wanted: str) -> None:
    assert indent_lists(written) == wanted


def project(root: Path, page: str) -> Path:
    (root / "docs").mkdir()
    (root / "code").mkdir()
    for name in OTHER_PAGES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("# A page\n\n[design](docs/index.md)\n" if "/" not in name else "# A page\n")
    (root / "code/one.py").write_text('"""One: `](x)`."""\n')
    (root / "docs/index.md").write_text("# Index\n")
    (root / "docs/page.md").write_text(page)
    stage(root, root / "site")
    return root / "site"


def test_links_out_of_the_documentation_lead_to_pages_of_the_site(tmp_path: Path) -> None:
    text = "[c](../CONTRIBUTING.md#a-page) [r](../README.md) [s](../code/one.py) [d](../code) `[x](../x)`\n"

    site = project(tmp_path, text)

    expected = "[c](contributing.md#a-page) [r](index.md) [s](source/code/one.py.md) [d](source/code.md) `[x](../x)`\n"
    assert (site / "page.md").read_text() == expected
    assert '"""One: `](x)`."""' in (site / "source/code/one.py.md").read_text()
    assert "one.py" in (site / "source/code.md").read_text()
    assert "[design](index.md)" in (site / "contributing.md").read_text()


@pytest.mark.parametrize("target", ["gone.md", "../../outside", "../code/two.py"])
def test_a_link_that_leads_nowhere_is_named(target: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenLinkError, match=r"docs/page\.md links to"):
        project(tmp_path, f"[x]({target})\n")


def test_the_pages_of_this_project_can_be_made(tmp_path: Path) -> None:
    stage(ROOT, tmp_path / "pages")

    names = {page.name for page in (ROOT / "docs").glob("*.md")} | set(OTHER_PAGES.values())
    assert names <= {page.name for page in (tmp_path / "pages").glob("*.md")}
