"""Text from outside is shown in one line, with nothing that acts on a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.client._base.text import excerpt, printable, quoted, shortened


def test_a_text_from_outside_is_cut_only_where_it_is_too_long() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcde", 3) == "abc… (2 more)"
    assert excerpt("ab\n", 4) == r"ab\n"
    assert excerpt("abc\n", 4) == r"abc\… (1 more)"


def test_a_quoted_text_shows_where_it_begins_and_ends() -> None:
    assert quoted("it's\n") == r"""  "it's\n"  """.strip()
    assert quoted("abcde", 3) == "'abc… (2 more)'"


@given(st.text(), st.integers(2, 50))
def test_words_from_outside_disturb_no_terminal_and_have_a_bound(text: str, longest: int) -> None:
    assert excerpt(text, longest).isprintable()
    assert len(excerpt(text, longest)) <= longest + len("… (999999 more)")
    assert quoted(text, longest).isprintable()
    assert printable(printable(text)) == printable(text)
