"""How many channels a server grants is learned, by refusals and by broken connections, whichever come together."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.clients import HUNG, connection_of, session_of
from tests.servers import openssh

from iot.sftp.client._ssh.channel_pool import TRANSFER_CHANNELS, ChannelBudget


@pytest.mark.parametrize("sessions", [1, 2, 3, 5])
def test_channels_that_are_asked_for_together_are_counted_when_all_are_answered(tmp_path: Path, sessions: int) -> None:
    """The refusal of the last ones comes before the first ones speak SFTP."""
    with openssh(tmp_path / "sshd", f"MaxSessions {sessions}") as server, session_of(server) as session:
        session.connect()
        pool = connection_of(session).channels
        pool.prepare(TRANSFER_CHANNELS)
        end = time.monotonic() + HUNG
        while pool._openings:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert pool._budget.most == sessions - 1  # one is for quick calls
        assert session.exists(".")


def test_one_break_is_the_links_and_a_second_one_in_the_same_place_a_refusal() -> None:
    budget = ChannelBudget()
    budget.refuse(2, broke=True)
    assert budget.most == TRANSFER_CHANNELS
    for count in (1, 2):  # on the next connection: what was granted before too
        budget.grant(count)
    budget.refuse(2, broke=True)
    assert budget.most == 2


def test_a_break_is_forgotten_when_more_is_granted() -> None:
    budget = ChannelBudget()
    budget.refuse(2, broke=True)
    budget.grant(3)
    budget.refuse(3, broke=True)
    assert budget.most == TRANSFER_CHANNELS


def test_of_two_breaks_the_later_one_counts() -> None:
    budget = ChannelBudget()
    budget.refuse(3, broke=True)
    budget.refuse(0, broke=True)
    assert budget.most == 3


def test_a_refusal_counts_at_once() -> None:
    budget = ChannelBudget()
    budget.refuse(4, broke=False)
    budget.refuse(5, broke=False)
    assert budget.most == 4
