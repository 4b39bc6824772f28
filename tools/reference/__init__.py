"""What the documentation has from the source: the library's reference, the errors, the architecture's picture."""

from reference._api import CHAPTERS, reference
from reference._architecture import HOUSES, arrows, description, drawing, imports, rooms
from reference._errors import error_page

__all__ = ["CHAPTERS", "HOUSES", "arrows", "description", "drawing", "error_page", "imports", "reference", "rooms"]
