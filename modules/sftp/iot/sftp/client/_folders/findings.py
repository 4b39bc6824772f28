"""What is found in one directory of a folder, on its way onto a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from iot.sftp.client._folders.folder_page import FolderPage, FoundFile

MOST_COMPARED = 4096  # files of one directory, which are kept beside the page until their destination is listed


class Findings(Protocol):
    """Takes what is found in a directory; as `FolderPage`, which has more on each method."""

    def covers(self, path: str) -> bool:
        """Return whether a file may belong to the page."""

    def goes_into(self, path: str) -> bool:
        """Return whether anything in a directory may belong to the page."""

    def add_directory(self, path: str) -> None:
        """Take a directory into account."""

    def add_files(self, files: list[FoundFile]) -> None:
        """Take files into account."""


class DirectoryFindings:
    """Holds the chosen files of one directory back until they have been compared with what is at their destination.

    A directory with more than `MOST_COMPARED` of them goes onto the page as it is found.

    Attributes:
        files: those that are held back.
    """

    def __init__(self, page: FolderPage) -> None:
        """Find nothing yet; `page` takes what is not held back."""
        self.files: list[FoundFile] = []
        self._page = page
        self._are_too_many = False
        self.covers = page.covers
        self.goes_into = page.goes_into
        self.add_directory = page.add_directory

    def add_files(self, files: list[FoundFile]) -> None:
        """Hold files back, as long as there are not too many."""
        if self._are_too_many:
            self._page.add_files(files)
            return
        self.files += self._page.chosen(files)
        if len(self.files) > MOST_COMPARED:
            self._are_too_many = True
            self._page.keep(self.files)
            self.files = []
