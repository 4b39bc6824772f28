"""What the documentation has from the source itself: the library's reference, and the picture of the architecture."""

from reference._api import CHAPTERS, reference
from reference._architecture import ARROWS, drawing, imports

__all__ = ["ARROWS", "CHAPTERS", "drawing", "imports", "reference"]
