"""How a sender takes the window that a server grants: in large parts where it can, and whatever there is otherwise."""

from __future__ import annotations

import threading

import pytest

from iot.sftp.client._ssh.paramiko_internals.channel_data import GATHER, Channel


def channel_with(window: int) -> Channel:
    channel = Channel(1)
    channel.out_window_size = window
    return channel


def test_what_is_free_is_taken_at_once() -> None:
    channel = channel_with(100)
    assert [channel.take_window(60), channel.take_window(40)] == [60, 40]


def test_a_little_is_taken_where_no_more_comes() -> None:
    channel = channel_with(1000)
    assert channel.take_window(995) == 995
    assert channel.take_window(500) == 5


def test_a_sender_is_woken_when_the_window_is_worth_it() -> None:
    channel = channel_with(1000)
    channel.take_window(1000)
    taken: list[int] = []
    sender = threading.Thread(target=lambda: taken.append(channel.take_window(500)))
    sender.start()
    channel.widen(300)
    sender.join(60)
    assert taken == [300]


def test_a_closed_channel_wakes_its_sender() -> None:
    channel = channel_with(0)
    failures: list[Exception] = []

    def send() -> None:
        try:
            channel.take_window(1)
        except OSError as error:
            failures.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    with channel.lock:
        channel._set_closed()  # type: ignore[attr-defined] # paramiko's own
    sender.join(60)
    assert [str(failure) for failure in failures] == ["the channel is closed"]


def test_a_window_that_stays_shut_is_told_after_the_channels_timeout() -> None:
    channel = channel_with(0)
    channel.settimeout(0.01)
    with pytest.raises(TimeoutError):
        channel.take_window(1)


def test_a_sender_gathers_for_far_less_than_a_kernel_holds_an_acknowledgement_back() -> None:
    """Between two jump hosts, what is sent next is what releases the rest of the window: Linux waits 40 ms for it."""
    assert GATHER * 4 < 0.04
