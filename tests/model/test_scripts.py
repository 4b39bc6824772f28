"""What the model has found, as scripts of its own: each of them broke a promise once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.model.calls import Calls
from tests.model.figures import Figures
from tests.model.folders import BatchOutbox, Inbox, Outbox
from tests.model.logs import LogInbox, LogOutbox
from tests.model.replay import replay
from tests.model.running import parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.machine import Machine

CLOCK_SET_AT_A_LOST_ANSWER = """
model.begin(then='keep', rules=1, aged=False)
model.run(0, [], [])
model.time(3456000.0)
made = [Made('sub/d.csv', 'replaced', 16, True), Made('a.csv', 'replaced', 4000, True)]
model.run(0, made, [Event(Moment('rename', 1, True), 'cut', 'a.csv', 'replaced')])
"""

SCRIPTS: dict[str, tuple[type[Machine], str]] = {
    "a_clock_that_is_set_lets_nobody_forget_a_rename_without_an_answer": (Outbox, CLOCK_SET_AT_A_LOST_ANSWER),
    "a_clock_that_is_set_lets_no_batch_forget_its_renames_without_an_answer": (BatchOutbox, CLOCK_SET_AT_A_LOST_ANSWER),
    "a_partners_file_of_the_same_size_and_second_is_no_arrival": (
        Outbox,
        """
        model.begin(then='delete', rules=1, aged=False)
        model.make(Made('c.json', 'replaced', 16, False))
        model.lose(name='c.json', what='leave')
        """,
    ),
    "the_next_file_of_the_same_size_and_second_arrives_after_a_restart": (
        Outbox,
        """
        model.begin(then='delete', rules=1, aged=False)
        model.run(0, [Made('a.csv', 'replaced', 16, False)], [])
        model.change('restart')
        model.run(0, [Made('a.csv', 'replaced', 16, False)], [])
        """,
    ),
    "a_version_that_keeps_size_and_time_arrives_after_a_restart": (
        Outbox,
        """
        model.begin(then='keep', rules=1, aged=False)
        model.run(0, [Made('a.csv', 'replaced', 16, False)], [])
        model.change('restart')
        model.run(0, [Made('a.csv', 'in place, same size and time', 16, False)], [])
        """,
    ),
    "two_rules_on_one_folder_do_not_forget_each_others_files": (
        Outbox,
        """
        model.begin(then='keep', rules=2, aged=False)
        model.run(0, [Made('a.csv', 'replaced', 16, True), Made('c.json', 'replaced', 16, True)], [])
        """,
    ),
    "a_clock_that_is_set_makes_nobody_forget": (
        Inbox,
        """
        model.begin(then='keep', rules=2, aged=False)
        model.run(0, [Made('a.csv', 'replaced', 16, True), Made('c.json', 'replaced', 16, True)], [])
        model.run(1, [], [])
        model.lose('a.csv', 'take')
        model.time(40 * 86400)
        model.run(0, [], [])
        model.run(1, [], [])
        model.change('restart')
        model.time(-80 * 86400)
        """,
    ),
    "a_mount_that_is_gone_for_a_while_makes_nobody_forget": (
        Outbox,
        """
        model.begin(then='keep', rules=1, aged=False)
        model.run(0, [Made('a.csv', 'replaced', 16, True)], [])
        model.lose('a.csv', 'take')
        model.change('mount')
        model.run(0, [], [])
        model.change('mount')
        model.run(0, [], [])
        """,
    ),
    "what_the_server_does_not_let_us_delete_is_delivered_once": (
        Inbox,
        """
        model.begin(then='delete', rules=1, aged=False)
        model.change('refuse remove')
        model.run(0, [Made('a.csv', 'replaced', 16, True)], [])
        model.lose('a.csv', 'take')
        model.run(0, [], [])
        """,
    ),
    "what_cannot_be_moved_is_delivered_once": (
        Outbox,
        """
        model.begin(then='move', rules=1, aged=False)
        model.change('block')
        model.run(0, [Made('a.csv', 'replaced', 16, True)], [])
        model.lose('a.csv', 'take')
        model.run(0, [], [])
        """,
    ),
    "a_file_that_is_begun_anew_after_the_listing_is_left_alone": (
        Outbox,
        """
        model.begin(then='delete', rules=1, aged=True)
        first = [Made('a.csv', 'replaced', 40000, True), Made('b.csv', 'replaced', 1400000, True)]
        model.run(0, first, [Event(Moment('open', 1, False), 'begin', 'b.csv')])
        """,
    ),
    "a_resumed_download_does_not_join_two_versions_of_one_size_and_time": (
        Calls,
        """
        model.begin()
        image = Made('a.csv', 'replaced, as from an archive, but for its ends', 1400000, True)
        cuts = [Event(Moment('read', 6), 'cut'), *(Event(Moment('stat', number), 'cut') for number in (2, 3, 4))]
        model.transfer('download_file', 'a.csv', [image], cuts)
        model.transfer('download_file', 'a.csv', [image], [])
        """,
    ),
    "a_file_that_is_rewritten_within_its_second_while_it_is_read_is_not_mixed": (
        Calls,
        """
        model.begin()
        rewritten = Event(Moment('read', 2, False), 'make', 'a.csv', 'in place, same size')
        model.transfer('download_file', 'a.csv', [Made('a.csv', 'replaced', 1400000, False)], [rewritten])
        """,
    ),
    "a_deletion_whose_answer_is_lost_does_not_strike_the_next_order": (
        Calls,
        """
        model.begin()
        lost = Event(Moment('remove', 1, True), 'cut, order', 'a.csv', 'replaced')
        model.handle(Made('a.csv', 'replaced', 16, False), 'delete_file', [lost])
        """,
    ),
    "a_move_whose_answer_is_lost_does_not_strike_the_next_order": (
        Calls,
        """
        model.begin()
        lost = Event(Moment('rename', 1, True), 'cut, order', 'a.csv', 'replaced')
        model.handle(Made('a.csv', 'replaced', 16, False), 'move_file', [lost])
        """,
    ),
    "what_arrived_before_the_process_was_killed_is_found_at_its_destination": (
        Outbox,
        """
        model.begin(then='delete', rules=1, aged=False)
        model.kill(0, [Made('a.csv', 'replaced', 16, True)], Moment('rename', 1, True))
        """,
    ),
    "an_upload_whose_rename_is_not_answered_is_not_sent_again": (
        Calls,
        """
        model.begin()
        lost = Event(Moment('rename', 1, True), 'cut')
        model.transfer('upload_file', 'a.csv', [Made('a.csv', 'replaced', 4000, True)], [lost])
        """,
    ),
    "a_rule_whose_rename_over_an_older_version_is_not_answered_does_not_send_again": (
        Outbox,
        """
        model.begin(then='keep', rules=1, aged=False)
        model.run(0, [Made('a.csv', 'replaced', 16, True)], [])
        model.run(0, [Made('a.csv', 'replaced', 16, True)], [Event(Moment('rename', 1, True), 'cut')])
        """,
    ),
    "a_task_whose_rename_is_not_answered_does_not_send_again": (
        Outbox,
        """
        model.begin(then='delete', rules=1, aged=False, tasks=True)
        model.run(0, [Made('a.csv', 'replaced', 16, True)], [Event(Moment('rename', 1, True), 'cut')])
        """,
    ),
    "what_arrived_is_recognised_also_where_its_time_is_ahead_of_the_clock": (
        Outbox,
        """
        model.begin(then='keep', rules=1, aged=False)
        model.make(Made('a.csv', 'replaced', 16, False))
        model.time(-3600)
        model.run(0, [], [Event(Moment('rename', 1, True), 'cut')])
        """,
    ),
    "a_task_that_is_killed_at_its_rename_does_not_send_again_where_the_clock_was_set_back": (
        Outbox,
        """
        model.begin(then='keep', rules=1, aged=False, tasks=True)
        model.make(Made('c.json', 'replaced', 16, True))
        model.kill(0, [], Moment('rename', 1, False))
        model.time(-3600)
        model.run(0, [], [])
        """,
    ),
    "a_killed_move_by_copy_leaves_nothing_behind": (
        Inbox,
        """
        model.begin(then='move', rules=1, aged=False)
        model.change('refuse rename')
        model.kill(0, [Made('a.csv', 'replaced', 16, True)], Moment('setstat', 1, True))
        """,
    ),
    "a_version_that_looks_as_the_delivered_one_did_before_it_was_touched_cannot_be_told_from_it": (
        Inbox,
        """
        model.begin(then='move', rules=1, aged=True)
        model.make(Made('a.csv', 'replaced, as from an archive', 16, False))
        model.run(0, [], [Event(Moment('read', 1, False), 'make', 'a.csv', 'touched')])
        model.run(0, [Made('a.csv', 'replaced, as from an archive, but for its ends', 16, False)], [])
        """,
    ),
    "a_log_that_is_killed_after_a_rename_without_an_answer_leaves_nothing_behind": (
        LogOutbox,
        """
        model.begin(is_all=False, lines=False, copies=True)
        model.kill(size=4000, moment=Moment('rename', 1, False))
        model.kill(size=4000, moment=Moment('write', 2, False))
        """,
    ),
    "a_log_that_is_written_anew_while_it_is_compared_is_not_taken_for_one_of_others": (
        LogOutbox,
        """
        model.begin(is_all=False, lines=False, copies=True)
        model.run(sizes=[300000, 300000], happens=[])
        rewritten = Event(Moment('close', 1, False), 'rotate', way='rewritten')
        model.run(sizes=[4000], happens=[rewritten])
        """,
    ),
    "a_log_that_begins_anew_long_after_it_was_packed_replaces_the_old_one": (
        LogOutbox,
        """
        model.begin(is_all=True, lines=False, copies=True)
        model.run(sizes=[4000], happens=[])
        model.restart(seconds=3456000.0)
        model.run(sizes=[], happens=[])
        model.rotate(way='packed')
        model.wait()
        model.run(sizes=[4000], happens=[])
        """,
    ),
    "a_remote_log_that_begins_anew_long_after_it_was_packed_replaces_the_old_one": (
        LogInbox,
        """
        model.begin(is_all=True, lines=False, copies=True)
        model.run(sizes=[4000], happens=[])
        model.restart(seconds=3456000.0)
        model.run(sizes=[], happens=[])
        model.rotate(way='packed')
        model.wait()
        model.run(sizes=[4000], happens=[])
        """,
    ),
    "a_temporary_file_that_cannot_be_removed_once_is_removed_later_whatever_the_clock_says": (
        LogOutbox,
        """
        model.begin(is_all=True, lines=True, copies=False)
        model.restart(seconds=3456000.0)
        happens = [Event(Moment('write', 1, False), 'cut'), Event(Moment('remove', 1, False), 'refuse')]
        model.run(sizes=[16], happens=happens)
        """,
    ),
    "a_version_that_looks_as_one_that_was_delivered_before_another_is_delivered": (
        Inbox,
        """
        model.begin(then='keep', rules=1, aged=True)
        model.make(Made('a.csv', 'replaced, as from an archive', 16, True))
        model.run(0, [], [])
        model.make(Made('a.csv', 'replaced', 16, False))
        model.run(0, [], [])
        model.make(Made('a.csv', 'replaced, as from an archive', 16, True))
        """,
    ),
    "a_stat_that_fails_once_makes_no_folder_of_the_destination": (
        Calls,
        """
        model.begin()
        failure = Event(Moment('stat', 1, False), 'refuse')
        model.transfer('upload_file', 'b.csv', [Made('b.csv', 'replaced', 16, True)], [failure])
        """,
    ),
    "a_stat_that_fails_once_makes_no_folder_of_where_a_file_is_moved": (
        Calls,
        """
        model.begin()
        failure = Event(Moment('stat', 1, False), 'refuse')
        model.handle(Made('b.csv', 'replaced', 16, True), 'move_file', [failure])
        """,
    ),
    "a_file_that_is_begun_while_its_directory_is_looked_for_is_left_until_it_is_complete": (
        Outbox,
        """
        model.begin(then='keep', rules=1, aged=True, keeps_order=True)
        model.run(0, [], [])
        begun = Event(Moment('stat', 1, True), 'begin', 'c.json')
        model.run(0, [Made('c.json', 'replaced', 16, True)], [begun])
        """,
    ),
}


@pytest.fixture(scope="module", autouse=True)
def running() -> Iterator[None]:
    """Run what the scripts need, once for all of them."""
    with parts(Figures()):
        yield


@pytest.mark.parametrize("name", SCRIPTS)
def test_that(name: str) -> None:
    replay(*SCRIPTS[name])
