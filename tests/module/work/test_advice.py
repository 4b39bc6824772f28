"""For each reason of a failure there is an advice, and for nothing else."""

from __future__ import annotations

import re

from iot.sftp.client import error_classes
from iot.sftp.module._documents.server import ServerSection
from iot.sftp.module._documents.twin import TransfersSection
from iot.sftp.module._documents.validation import Document
from iot.sftp.module._methods.idempotency import RequestIdConflict
from iot.sftp.module._methods.table import METHODS
from iot.sftp.module._work.advice import ADVICE


def test_every_code_that_an_operator_can_see_has_its_advice() -> None:
    assert set(ADVICE) == {error.code for error in error_classes()} | {RequestIdConflict.code}


def test_an_advice_is_one_line_of_sentences() -> None:
    for advice in ADVICE.values():
        assert advice.isprintable()
        assert advice[0].isupper()
        assert advice.endswith(".")
        assert len(advice) < 300


def test_an_advice_names_only_methods_parameters_and_settings_that_exist() -> None:
    parameters = {name for method in METHODS.values() for name in method.request.model_fields}
    sections: dict[str, type[Document]] = {"sftp": ServerSection, "transfers": TransfersSection}
    settings = {f"{name}.{field.alias}" for name, kind in sections.items() for field in kind.model_fields.values()}
    for advice in ADVICE.values():
        for name in re.findall(r"\b[a-z]+_[a-z_]+\b", advice):
            assert name in METHODS or name in parameters, name
        for name in re.findall(r'"(\w+)"', advice):
            assert name in parameters, name
        for name in re.findall(r"\b(?:sftp|transfers)\.\w+", advice):
            assert name in settings, name
