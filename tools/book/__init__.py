"""The documentation as a site: what `make docs` builds from.

The pages in `docs/` are written for whoever reads them in the repository. Here they become the source of a site that
is complete in itself: links out of `docs/` lead to pages of the site, and lists are indented as the site's Markdown
wants it. `mkdocs.yml` says what the site looks like.
"""

from book._lists import indent_lists
from book._pages import OTHER_PAGES, BrokenLinkError, stage

__all__ = ["OTHER_PAGES", "BrokenLinkError", "indent_lists", "stage"]
