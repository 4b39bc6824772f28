"""What the documentation has from the source itself: the library's reference, and the picture of the architecture."""

from reference._api import CHAPTERS, reference
from reference._architecture import HOUSES, arrows, description, drawing, imports, rooms

__all__ = ["CHAPTERS", "HOUSES", "arrows", "description", "drawing", "imports", "reference", "rooms"]
