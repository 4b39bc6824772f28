"""Know what a folder's earlier transfers have delivered, for one more of them."""

from __future__ import annotations

import logging
import os
import posixpath
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from iot.sftp.client import Direction, SFTPError
from iot.sftp.module._documents.destination import FilePlaces
from iot.sftp.module._documents.servers import DEFAULT_SERVER
from iot.sftp.module._work.delivered_versions import MovedFiles
from iot.sftp.module._work.delivery_ledgers import name_of

if TYPE_CHECKING:
    import threading
    from contextlib import AbstractContextManager

    from iot.sftp.client import FolderOrder, FolderTransfer, LocalFiles, SFTPSession
    from iot.sftp.client._base.settings import ServerSettings
    from iot.sftp.module._work.delivery_ledger import DeliveryLedger
    from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderDelivery:
    """The ledger for one transfer of a folder: which one it is, and how it is used.

    Attributes:
        order: which files of which folder.
        server: the name of the server.
        ledgers: what was delivered; without them, nothing is known of earlier transfers.
        local_files: how local folders are reached.
        task_id: the task that transfers it; `None` for a rule.
        destination: what stands for the order's destination, if its path depends on the time: what has arrived
            yesterday is not sent again because its folder has another name today.
        account: the same for the account and its root.
    """

    order: FolderOrder
    server: str
    ledgers: DeliveryLedgers | None
    local_files: LocalFiles | None
    task_id: str | None = None
    destination: object = None
    account: list[object] | None = None

    def ledger_name(self, settings: ServerSettings) -> str:
        """Return the name of the ledger, as it is with these settings of the server."""
        return name_of(self._route(settings))

    def exclusive_scan(self, session: SFTPSession, cancelled: threading.Event) -> AbstractContextManager[None]:
        """Wait until no other rule or task delivers the same files by the same route."""
        if self.ledgers is None:
            return nullcontext()
        pattern = self.order.selection.file_pattern
        return self.ledgers.scans.scan(*self._route(session.settings), pattern=pattern, cancelled=cancelled)

    def open_ledger(self, session: SFTPSession, *, is_careful: bool) -> tuple[DeliveryLedger | None, bool]:
        """Return the ledger for a transfer, and whether it has to compare what exists at the destination.

        Parameters:
            session: the server.
            is_careful: whether the last transfer was interrupted, so that what it has delivered may not be recorded.

        Raises:
            SFTPError: the ledger cannot be used.
        """
        if self.ledgers is None:
            return None, is_careful
        keeps = self.order.keeps_source
        try:
            ledger = self.ledgers.of(
                *self._route(session.settings),
                former_route=self._route(session.settings, has_names=False),
                task=self._own_task,
                covers=self.covers,
                home=self._home(),
                is_strict=not keeps,
                verifies=is_careful,
                has_places=self._has_places,
                delivers_lines=self.order.append is not None and self.order.append.lines,
            )
            ledger.moved_files = self._moved_files()
            # Where files wait to be deleted, whoever fixes that (chmod, chown) changes the file, but not its content
            return ledger, is_careful or (not keeps and ledger.holds_any())
        except SFTPError as error:
            if keeps and self.task_id is None:  # it would send everything again, run after run
                raise
            _log.warning(
                "deliveries are recorded in memory only, and compared again after a restart: %s", error.message
            )
            return None, True

    def close_scan(self, done: FolderTransfer, ledger: DeliveryLedger) -> None:
        """Have the ledger forget files that are gone for good."""
        prefix = _listed(self.order.source, "")
        found = [failure for failure in done.failures if ledger.has_found(failure.path[len(prefix) :])]
        # What failed are files that were found: so all folders could be listed
        ledger.end_scan(is_complete=len(found) == done.failed)

    @property
    def _has_places(self) -> bool:
        """Whether the ledger remembers where each file goes, as that depends on the time."""
        return isinstance(self.order.rename, FilePlaces) and self.order.rename.has_date

    @property
    def _own_task(self) -> str | None:
        """The task with a ledger of its own: who asks again for a folder that is kept wants it to be sent again."""
        return self.task_id if self.order.keeps_source else None

    def _route(self, settings: ServerSettings, *, has_names: bool = True) -> list[object]:
        """Return what identifies the ledger, also to later versions of the module: it is part of the file's format.

        Parameters:
            settings: of the server.
            has_names: whether the names of files there are part of it; they were not before version 3 of the tables.
        """
        order = self.order
        route: list[object] = [settings.place, settings.port, *(self.account or [settings.user, settings.root])]
        route += [order.direction.value, order.source, self.destination or order.dest]
        name = order.rename.name_identity if isinstance(order.rename, FilePlaces) else None
        if has_names and name is not None:  # under another name it is another file there
            route.append({"rename": name})
        if self._own_task is not None:
            route.append(self._own_task)
        # A server that appears under two names is still two
        return route if self.server == DEFAULT_SERVER else [*route, {"server": self.server}]

    def _moved_files(self) -> MovedFiles | None:
        """Return what finds the files that are moved on the device, if anybody asks whether these are delivered."""
        is_asked = self.ledgers is not None and self.ledgers.delivered.is_asked
        if not is_asked or self.local_files is None or self.order.direction is not Direction.UPLOAD:
            return None
        return None if self.order.move_to is None else MovedFiles(self.local_files, self.order.move_to)

    def covers(self, path: str) -> bool:
        """Return whether the transfer finds a file that exists, by its path relative to the source."""
        return (self.order.selection.recursive or "/" not in path) and self.order.selects(path)

    def _home(self) -> int | None:
        """Return the inode of a local source; `None` if it is remote, or does not exist."""
        if self.order.direction is not Direction.UPLOAD or self.local_files is None:
            return None
        try:
            directory = self.local_files.open_directory(self.order.source)
        except SFTPError:  # the transfer reports it
            return None
        try:
            return os.fstat(directory).st_ino % 2**63
        finally:
            os.close(directory)


def with_memory(order: FolderOrder, ledger: DeliveryLedger) -> FolderOrder:
    """Return an order that remembers over restarts where its files go, what is left to do, and how often they fail."""
    rename, quarantine = order.rename, order.quarantine
    return replace(
        order,
        rename=None if rename is None else partial(ledger.place_of, choose=rename),
        markers=replace(order.markers, record=ledger.markers),
        quarantine=None if quarantine is None else replace(quarantine, counts=ledger.failures),
    )


def _listed(source: str, path: str) -> str:
    """Return the path of a file as listings of its folder show it."""
    return path if source in {"", "."} else posixpath.join(source, path)
