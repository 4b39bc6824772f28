"""Lists as CommonMark has them, for Python-Markdown: it wants four columns for each level, and a blank line before."""

from __future__ import annotations

import re

_ITEM = re.compile(r"( *)([-*+]|\d+[.)])( +)(?=\S)")
_FENCE = re.compile(r" *(```+|~~~+)")
_COLUMNS = 4  # for each level, whatever the marker


def indent_lists(text: str) -> str:
    """Return a page whose lists are indented by four columns for each level."""
    lines: list[str] = []
    levels: list[int] = []  # the column at which the content of each open item begins
    has_blocks = False  # whether the last item has a blank line in it
    fence = ""  # what ends the block of code that the line is in
    for line in text.split("\n"):
        indentation = len(line) - len(line.lstrip())
        if not line.strip():
            lines.append(line)
            has_blocks = True
            continue
        if not fence:
            item = _ITEM.match(line)
            after_blank = not lines or not lines[-1].strip()
            depth = len(levels)
            while levels and indentation < levels[-1] and (item or after_blank):
                levels.pop()
            if item:
                if not after_blank and (not depth or len(levels) < depth - 1 or has_blocks):
                    lines.append("")
                lines.append(_COLUMNS * len(levels) * " " + line.lstrip())
                levels.append(len(item.group()))
                has_blocks = False
                continue
        content = levels[-1] if levels else 0
        lines.append((_COLUMNS * len(levels) + max(indentation - content, 0)) * " " + line.lstrip())
        fence = _after(line, fence)
    return "\n".join(lines)


def _after(line: str, fence: str) -> str:
    """Return what ends the block of code that is open after a line; nothing if none is."""
    marks = _FENCE.match(line)
    if not fence:
        return marks[1] if marks else ""
    return "" if line.strip() == fence else fence
