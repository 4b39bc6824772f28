"""Text from outside is shown in one line, with nothing that acts on a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.client._base.text import printable


def test_a_text_from_outside_is_cut_only_where_it_is_too_long() -> None:
    assert printable("ab", 5) == "ab"
    assert printable("abcde", 5) == "abcde"
    assert printable("abcdef", 5) == "abcd…"


@given(st.text(), st.integers(2, 50))
def test_words_from_outside_disturb_no_terminal_and_have_a_bound(text: str, longest: int) -> None:
    shown = printable(text, longest)
    assert shown.isprintable()
    assert len(shown) <= longest
