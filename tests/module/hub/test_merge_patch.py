"""JSON merge patches."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.module._hub.merge_patch import difference, merged

DOCUMENTS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 3) | st.text(max_size=2)),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | st.integers(0, 3)),
    max_leaves=10,
)


@given(old=DOCUMENTS, new=DOCUMENTS)
def test_a_difference_turns_the_old_document_into_the_new_one(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merged(old, difference(old, new)) == new
    assert difference(new, new) == {}
