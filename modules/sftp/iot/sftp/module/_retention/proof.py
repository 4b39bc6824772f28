"""Prove that a local file is delivered: to all whom it is for.

One ledger that knows this very version is a proof, whichever rule or folder's task it is of. But a rule in force whose
file it is too has to have delivered it as well: its server may have been away for weeks.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.client import Direction, NotFound, SFTPError
from iot.sftp.client._folders.folder_direction import relative_to
from iot.sftp.module._documents.orders import folder_order
from iot.sftp.module._retention.local_tree import opened_tree
from iot.sftp.module._work.folder_delivery import FolderDelivery
from iot.sftp.module._work.real_path import real_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from iot.sftp.client import FolderOrder, LocalFiles
    from iot.sftp.module._documents.rule import Rule
    from iot.sftp.module._retention.found_file import FoundFile
    from iot.sftp.module._work.delivered_versions import DeliveredVersions
    from iot.sftp.module._work.servers import Servers

NOT_DELIVERED = "not delivered"


@dataclass(frozen=True)
class Duty:
    """A rule that has to deliver the files of a folder.

    Attributes:
        rule: its name.
        source: the path of its folder, without links.
        covers: returns whether a file is for the rule, by its path relative to the folder.
        ledger: where it records what it has delivered; `None` if that is not known at the moment.
    """

    rule: str
    source: str
    covers: Callable[[str], bool]
    ledger: str | None


class Duties:
    """The duties of the rules in force."""

    def __init__(
        self,
        rules: Callable[[], Mapping[str, Rule]],
        servers: Servers,
        local_files: LocalFiles,
        state_dir: Path,
        clock: Callable[[], float],
    ) -> None:
        """Take the parts; `clock` gives the moment for dates in paths."""
        self._rules = rules
        self._servers = servers
        self._local_files = local_files
        self._state_dir = state_dir
        self._clock = clock

    def now(self) -> list[Duty]:
        """Return the duties of this moment."""
        uploads = [rule for rule in self._rules().values() if rule.direction == Direction.UPLOAD.value]
        found = (self._duty(rule) for rule in uploads)
        return [duty for duty in found if duty is not None]

    def _duty(self, rule: Rule) -> Duty | None:
        """Return the duty of a rule; `None` if it has no folder at the moment."""
        try:
            order = folder_order(Direction.UPLOAD, rule, self._clock)
            source, covers = order.source, _covers(order)
        except SFTPError:  # a date that cannot be filled in: whatever is in the folders of all dates may be for it
            order, (source, _), covers = None, rule.source.split(), _covers_all
        try:
            with opened_tree(self._local_files, source, self._state_dir) as tree:
                real = real_path(tree.directory)
        except NotFound:
            return None
        return Duty(rule.name, real, covers, None if order is None else self._ledger(rule, order))

    def _ledger(self, rule: Rule, order: FolderOrder) -> str | None:
        try:
            sessions = self._servers.find(rule.server)
        except SFTPError:
            return None
        settings = sessions.settings
        if settings is None:
            return None
        delivery = FolderDelivery(order, rule.server, None, None, None, rule.dest.identity(), sessions.account)
        return delivery.ledger_name(settings)


def _covers_all(_path: str) -> bool:
    return True


def _covers(order: FolderOrder) -> Callable[[str], bool]:
    moved = relative_to(order.source, order.moved_below or order.move_to)
    delivery = FolderDelivery(order, "", None, None)

    def covers(path: str) -> bool:
        is_moved = moved is not None and f"{path}/".startswith(f"{moved}/")
        return not is_moved and delivery.covers(path)

    return covers


class DeliveryProofs:
    """Proves the delivery of the files of one folder."""

    def __init__(self, delivered: DeliveredVersions, duties: Sequence[Duty], folder: str) -> None:
        """Take what is known.

        Parameters:
            delivered: the records of all ledgers.
            duties: of the rules in force.
            folder: the path of the folder, without links.
        """
        self._delivered = delivered
        self._duties = duties
        self._folder = folder

    def lack(self, file: FoundFile) -> str | None:
        """Return what a file lacks of its delivery; `None` if it is delivered.

        Raises:
            SFTPError: the ledgers cannot be used.
        """
        path = posixpath.join(self._folder, file.path)
        ledgers = self._delivered.ledgers_of(path, file.version)
        if not ledgers:
            return NOT_DELIVERED
        for duty in self._duties:
            relative = relative_to(duty.source, path)
            if relative is not None and duty.covers(relative) and duty.ledger not in ledgers:
                return f"not delivered by the rule {duty.rule}"
        return None
