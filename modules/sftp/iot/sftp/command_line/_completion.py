"""The completion scripts: commands and options come from the parser, everything else is a file name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCRIPT = """\
# iot-sftp completion: {how}
_iot_sftp() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words="" options="" choices=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands} --help --version"
    else
        case "${{COMP_WORDS[1]}}" in
{cases}
        esac
        case "$word" in -*) words=$options ;; *) words=$choices ;; esac
        case "${{COMP_WORDS[COMP_CWORD-1]}}" in
{values}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _iot_sftp iot-sftp
"""
HOW = {"bash": 'eval "$(iot-sftp completion bash)"', "zsh": 'eval "$(iot-sftp completion zsh)"'}
ZSH = "autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit\n"


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for a shell; zsh can run that of bash."""
    commands = commands_of(parser)
    cases = [_case(name, *words_of(command)) for name, command in commands.items()]
    values = {option: words for command in commands.values() for option, words in _values(command)}
    given = [f'            {option}) words="{" ".join(words)}" ;;' for option, words in values.items()]
    text = SCRIPT.format(how=HOW[shell], commands=" ".join(commands), cases="\n".join(cases), values="\n".join(given))
    return ZSH + text if shell == "zsh" else text


def commands_of(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the parser of each command, by its name."""
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001 - argparse has no public way to list them
    return commands.choices


def _case(name: str, options: list[str], choices: list[str]) -> str:
    return f'            {name}) options="{" ".join(options)}" choices="{" ".join(choices)}" ;;'


def words_of(command: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """Return the options of a command, and the choices of its arguments."""
    actions = command._actions  # noqa: SLF001 - see above
    options = [option for action in actions for option in action.option_strings if option.startswith("--")]
    choices = [str(choice) for action in actions if not action.option_strings for choice in action.choices or ()]
    return options, choices


def _values(command: argparse.ArgumentParser) -> Iterator[tuple[str, list[str]]]:
    """Yield each option that has a value, and its choices; without choices, the shell completes file names."""
    for action in command._actions:  # noqa: SLF001 - see above
        if action.nargs != 0:
            for option in action.option_strings:
                yield option, [str(choice) for choice in action.choices or ()]
