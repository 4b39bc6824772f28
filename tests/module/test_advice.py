"""For each reason of a failure there is an advice, and for nothing else."""

from __future__ import annotations

from iot.sftp.client import SFTPError
from iot.sftp.module._advice import ADVICE
from iot.sftp.module._request_ids import RequestIdConflict


def test_every_code_that_an_operator_can_see_has_its_advice() -> None:
    public: list[type[SFTPError]] = [*SFTPError.__subclasses__(), RequestIdConflict]
    assert set(ADVICE) == {error.code for error in public}


def test_an_advice_is_one_line_of_sentences() -> None:
    for advice in ADVICE.values():
        assert advice.isprintable()
        assert advice[0].isupper()
        assert advice.endswith(".")
        assert len(advice) < 300
