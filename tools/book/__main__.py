"""`python -m book`: write the source of the site into build/book/pages; `make docs` calls it."""

from __future__ import annotations

import sys
from pathlib import Path

from book import BrokenLinkError, stage

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Write the pages, or say which link leads nowhere."""
    try:
        stage(ROOT, ROOT / "build/book/pages")
    except BrokenLinkError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
