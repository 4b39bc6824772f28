"""What a shell completes: the commands and the options, as the parser has them; files for the rest."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPT = """\
# iot-sftp completion: {how}
_iot_sftp() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands} --help --version"
    else
        case "${{COMP_WORDS[1]}}" in
{cases}
        esac
        case "$word" in -*|"") ;; *) [ "${{COMP_WORDS[1]}}" = completion ] || words="" ;; esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _iot_sftp iot-sftp
"""
HOW = {"bash": 'eval "$(iot-sftp completion bash)"', "zsh": 'eval "$(iot-sftp completion zsh)"'}
ZSH = "autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit\n"


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for a shell; zsh takes that of bash, once it was told to."""
    words = {name: _words(command) for name, command in _commands(parser).items()}
    cases = "\n".join(f'            {name}) words="{" ".join(found)}" ;;' for name, found in words.items())
    text = SCRIPT.format(how=HOW[shell], commands=" ".join(words), cases=cases)
    return ZSH + text if shell == "zsh" else text


def _commands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001 - argparse tells of its words in no other way
    return commands.choices


def _words(command: argparse.ArgumentParser) -> list[str]:
    found: list[str] = []
    for action in command._actions:  # noqa: SLF001 - see above
        found += [option for option in action.option_strings if option.startswith("--")]
        found += [str(choice) for choice in action.choices or ()] if not action.option_strings else []
    return found
