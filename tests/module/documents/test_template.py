"""A text with placeholders: parsed or refused with a clear reason; a value never leads anywhere else."""

from __future__ import annotations

import posixpath
import re
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iot.sftp.client import NotConfigured, PathNotAllowed
from iot.sftp.module._documents.template import BUILT_IN, DIRECTIVES, Placeholders, Template, TemplateKind, check_value
from iot.sftp.module._documents.template_parts import CLOCK_STARTS, TemplateError

BERLIN = ZoneInfo("Europe/Berlin")
HERE = Placeholders("device-42", "sftp", "plant-hub", {"line": "7", "site": "north"})
NOW = datetime(2026, 11, 23, 15, 49, 59, tzinfo=timezone.utc).timestamp()


def filled(
    text: str,
    placeholders: Placeholders = HERE,
    *,
    now: float = NOW,
    path: str = "sub/deep/day.tar.gz",
    server: str = "mes",
    kind: TemplateKind = TemplateKind.FILE,
) -> str:
    return Template.parse(text, placeholders, server=server, kind=kind).fill(now, path)


def refusal(text: str, placeholders: Placeholders = HERE, kind: TemplateKind = TemplateKind.DEVICE) -> str:
    with pytest.raises(TemplateError) as error:
        Template.parse(text, placeholders, kind=kind)
    return str(error.value)


# What is filled in


@pytest.mark.parametrize(
    "text, result",
    [
        ("plain/text", "plain/text"),
        ("/", "/"),
        ("a//b/", "a//b/"),
        ("../up", "../up"),  # the author's own text, as without placeholders
        ("{deviceId}", "device-42"),
        ("{moduleId}.{hub}.{server}", "sftp.plant-hub.mes"),
        ("line-{line}/{site}", "line-7/north"),
        ("{date:%Y/%m/%d}/{deviceId}", "2026/11/23/device-42"),
        ("{date:%Y%m%dT%H%M%S%z}", "20261123T154959+0000"),
        ("{date:%H%M}-{date:%%}", "1549-%"),
        ("{name}|{stem}|{ext}", "day.tar.gz|day.tar|.gz"),
        ("a/{folder}/b", "a/sub/deep/b"),
        ("{{deviceId}} {{{line}}}", "{deviceId} {7}"),
        ("{{}}", "{}"),
        ("ä ö {line}\n", "ä ö 7\n"),
    ],
)
def test_placeholders_are_filled_in(text: str, result: str) -> None:
    assert filled(text) == result


@pytest.mark.parametrize(
    "text, result", [("a/{folder}/b", "a/b"), ("{folder}", ""), ("/{folder}", "/"), ("{folder}//etc", "etc")]
)
def test_the_folder_of_a_file_directly_in_the_source_adds_nothing(text: str, result: str) -> None:
    assert filled(text, path="day.csv") == result


@pytest.mark.parametrize(
    "name, stem, extension", [(".profile", ".profile", ""), ("a", "a", ""), ("a.b.c", "a.b", ".c")]
)
def test_an_extension_has_its_dot(name: str, stem: str, extension: str) -> None:
    assert filled("{stem}|{ext}", path=name) == f"{stem}|{extension}"


def test_what_never_changes_makes_equal_templates() -> None:
    assert Template.parse("{line}/{date:%Y}", HERE) == Template.parse("7/{date:%Y}", HERE)
    assert Template.parse("{line}", HERE).is_fixed
    assert Template.parse("{line}", HERE) != Template.parse("{line}", Placeholders(variables={"line": "8"}))
    assert Template.parse("{date:%Y}", HERE) != Template.parse("{date:%Y}", Placeholders(zone=BERLIN))
    assert Template.parse("{date:%Y}", HERE).has_date
    assert str(Template.parse("{line}/{{", HERE)) == "{line}/{{"


def test_what_stands_for_a_template_over_time_is_no_other_s() -> None:
    daily = Template.parse("{line}/{date:%Y/%m}/{{{name}", HERE, kind=TemplateKind.FILE)
    assert daily.identity() == ["template", "7/{date:%Y}/{date:%m}/{{{name}"]
    assert Template.parse("{line}/{{date:%Y}}", HERE).identity() == "7/{date:%Y}"


# What is refused


@pytest.mark.parametrize(
    "text, reason",
    [
        ("out/{lin}", "has the unknown placeholder {lin} at character 5; known are: {deviceId}, {moduleId}, {hub}, "),
        ("{lin}", "{server}, {date:…}, {line}, {site}"),
        ("{}", "has the unknown placeholder {} at character 1"),
        ("{deviceid}", "has the unknown placeholder {deviceid} at character 1"),
        ("a{", "has a '{' at character 2 that is not closed: write '{{' for one"),
        ("{a{line}}", "has a '{' at character 1 that is not closed"),
        ("a}b", "has a '}' at character 2 that closes nothing: write '}}' for one"),
        ("{line}}", "has a '}' at character 7 that closes nothing"),
        ("{line:%Y}", "has a format in {line} at character 1: only {date:…} takes one"),
        ("{date}", "has a {date} at character 1 without a format such as {date:%Y/%m/%d}"),
        ("{date:}", "without a format"),
        ("{date:today}", "without a format"),
        ("{date:%Y%D}", "has '%D' in the date at character 1, which is not known here; known are: %a %A"),
        ("{date:%x}", "has '%x' in the date"),
        ("{date:%Y%}", "has '%' in the date"),
        ("{date:%-d}", "has '%-' in the date"),
        ("{date:%Y/../%m}", "has a date at character 1 with a part that is no name"),
        ("{date:/%Y}", "with a part that is no name"),
        ("{name}", "has {name} at character 1, which stands for one file and has no meaning here; known are: {dev"),
    ],
)
def test_a_text_that_is_no_template_is_refused_with_its_place(text: str, reason: str) -> None:
    assert reason in refusal(text)


@pytest.mark.parametrize("text", ["{folder}-x", "x{folder}", "{folder}{line}", "{date:%Y/%m}{folder}"])
def test_a_folder_stands_between_slashes(text: str) -> None:
    assert "has {folder} as a part of a name" in refusal(text, kind=TemplateKind.FILE)


@pytest.mark.parametrize("text", ["a/b", "{date:%Y/%m}", "{name}/"])
def test_a_name_has_no_slashes(text: str) -> None:
    assert "must not contain '/'" in refusal(text, kind=TemplateKind.NAME)
    assert "{folder} at character 1" in refusal("{folder}", kind=TemplateKind.NAME)


@pytest.mark.parametrize("text", [".", ".."])
def test_a_name_is_not_that_of_a_folder(text: str) -> None:
    assert f"is '{text}', which is no name" in refusal(text, kind=TemplateKind.NAME)


def test_a_word_that_has_no_value_here_is_refused() -> None:
    assert refusal("{hub}", Placeholders("device-42", "sftp")) == (
        "has {hub}, which is not known here: the edge agent sets it (IOTEDGE_…)"
    )


@pytest.mark.parametrize("value", ["a/b", "/", "..", "../x", "a\\b", "a\0b", "\n", "\x7f", "\x85", "\u202e", "\ud800"])
def test_a_value_that_leads_elsewhere_is_refused(value: str) -> None:
    with pytest.raises(TemplateError):
        check_value(value)
    assert "has {deviceId}, whose value must not" in refusal("{deviceId}", Placeholders(device=value))


@pytest.mark.parametrize(
    "text, values",
    [
        ("{a}", {"a": "."}),
        ("{a}{b}", {"a": ".", "b": "."}),
        (".{a}", {"a": "."}),
        ("x/{a}/y", {"a": ""}),
        ("{a}", {"a": ""}),
    ],
)
def test_values_that_make_no_name_together_are_refused(text: str, values: dict[str, str]) -> None:
    assert "cannot be used with the values of this device" in refusal(text, Placeholders(variables=values))


@pytest.mark.parametrize("path", ["plain", "sub/plain"])
def test_a_file_whose_words_make_no_name_is_refused_by_itself(path: str) -> None:
    template = Template.parse("by-type/{ext}", HERE, kind=TemplateKind.FILE)
    assert template.fill(NOW, "day.csv") == "by-type/.csv"
    with pytest.raises(PathNotAllowed, match="which is no name"):
        template.fill(NOW, path)


# Time


@pytest.mark.parametrize(
    "zone, moment, result",
    [
        (timezone.utc, "2026-12-31T23:59:59Z", "2026/12/31 23"),
        (timezone.utc, "2027-01-01T00:00:00Z", "2027/01/01 00"),
        (BERLIN, "2026-12-31T22:59:59Z", "2026/12/31 23"),  # midnight is that of the time zone
        (BERLIN, "2026-12-31T23:00:00Z", "2027/01/01 00"),
        (BERLIN, "2027-03-28T00:59:59Z", "2027/03/28 01"),  # there is no 02 in the night in which summer time begins
        (BERLIN, "2027-03-28T01:00:00Z", "2027/03/28 03"),
        (BERLIN, "2027-10-31T00:59:59Z", "2027/10/31 02"),  # and twice where it ends
        (BERLIN, "2027-10-31T01:00:00Z", "2027/10/31 02"),
        (ZoneInfo("Pacific/Kiritimati"), "2026-12-31T10:00:00Z", "2027/01/01 00"),
    ],
)
def test_a_date_is_that_of_the_time_zone_at_the_moment_of_use(zone: ZoneInfo, moment: str, result: str) -> None:
    template = Template.parse("{date:%Y/%m/%d %H}", Placeholders(zone=zone))
    assert template.fill(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()) == result


def test_the_offset_tells_the_two_hours_apart_in_which_summer_time_ends() -> None:
    template = Template.parse("{date:%H%z}", Placeholders(zone=BERLIN))
    first = datetime(2027, 10, 31, 0, 30, tzinfo=timezone.utc)
    moments = (first, first + timedelta(hours=1))
    assert [template.fill(moment.timestamp()) for moment in moments] == ["02+0200", "02+0100"]


@pytest.mark.parametrize("now", [0.0, -1e9, CLOCK_STARTS - 1])
def test_a_clock_that_is_not_set_fills_in_nothing(now: float) -> None:
    with pytest.raises(NotConfigured, match="the clock of the device is not set yet"):
        Template.parse("{date:%Y}").fill(now)
    assert Template.parse("{line}", HERE).fill(now) == "7"


@pytest.mark.parametrize("directive", DIRECTIVES)
def test_every_directive_gives_a_name_all_year(directive: str) -> None:
    template = Template.parse(f"{{date:%{directive}}}", Placeholders(zone=BERLIN))
    for day in range(0, 366, 5):
        given = template.fill(NOW + day * 86_400 + day * 3_601)
        assert re.fullmatch(r"[\w:%+-]+", given), given


# Any text, any value

TEXT = st.text(st.characters(exclude_categories=[]), max_size=12)
PIECES = st.one_of(
    TEXT,
    st.sampled_from([f"{{{word}}}" for word in BUILT_IN]),
    st.sampled_from(
        ["{line}", "{site}", "/", ".", "..", "{{", "}}", "{", "}", "{date:%Y/%m/%d}", "{date:%H}", "{date:.}"]
    ),
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)
NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name not in {".", ".."}
)
FILES = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


def slots(text: str) -> int:
    """Return how many components a template has, by its own slashes and those of its dates."""
    return len(text.split("/"))


@given(
    text=TEXTS,
    values=st.fixed_dictionaries({"line": TEXT, "site": TEXT}),
    device=TEXT,
    path=FILES,
    kind=st.sampled_from(TemplateKind),
)
@example(text="{line}{site}", values={"line": ".", "site": "."}, device="d", path="a", kind=TemplateKind.DEVICE)
@example(text="{stem}{ext}", values={"line": "", "site": ""}, device="d", path="a..", kind=TemplateKind.NAME)
def test_any_text_with_any_value_is_filled_in_within_its_folder_or_refused(
    text: str, values: dict[str, str], device: str, path: str, kind: TemplateKind
) -> None:
    try:
        template = Template.parse(text, Placeholders(device, "sftp", "hub", values), kind=kind)
        result = template.fill(NOW, path)
    except (TemplateError, PathNotAllowed):
        return
    expected = slots(text)
    if "{folder}" in text:  # the only word that has components of its own
        depth = path.count("/")
        assert len(result.split("/")) <= expected + text.count("{folder}") * max(0, depth - 1)
    else:
        assert len(result.split("/")) == expected
    written = [part for part in text.split("/") if part in {"..", "."}]
    assert sum(part in {"..", "."} for part in result.split("/")) == len(written)  # those of the author only
    if not text.startswith("/"):
        assert not result.startswith("/")
    if ".." not in written:
        assert f"{posixpath.normpath(posixpath.join('/root', result.lstrip('/')))}/".startswith("/root/")


@given(text=st.text(st.characters(exclude_categories=[]), max_size=40))
def test_braces_that_are_doubled_are_the_text_itself(text: str) -> None:
    template = Template.parse(text.replace("{", "{{").replace("}", "}}"))
    assert template.is_fixed
    assert template.fill() == text
    assert template.identity() == text
