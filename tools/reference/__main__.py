"""`python -m reference`: write what the documentation has from the source; `make reference` calls it."""

from __future__ import annotations

from pathlib import Path

from reference import drawing, error_page, reference

DOCS = Path(__file__).parents[2] / "docs"


def main() -> None:
    """Write the pages and the picture."""
    (DOCS / "api.md").write_text(reference(), encoding="utf-8")
    (DOCS / "errors.md").write_text(error_page(), encoding="utf-8")
    (DOCS / "architecture.svg").write_text(drawing(), encoding="utf-8")


if __name__ == "__main__":
    main()
