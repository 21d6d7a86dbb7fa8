"""``edgectl completion``: a script that lets a shell complete commands, options and kinds."""

import argparse

from edgeagent.cli.ctl.parser import OUTPUTS, build_parser
from edgeagent.cli.resources import RESOURCES

_SHOWN = ("get", "describe", "delete")
"""The commands that take a kind first."""


def run(options: argparse.Namespace) -> int:
    """Print the script for one shell."""
    commands = _command_options(build_parser())
    words = " ".join(commands)
    kinds = " ".join(resource.plural for resource in RESOURCES)
    about = " ".join(f"{resource.singular}/" for resource in RESOURCES)
    if options.shell == "fish":
        print("complete -c edgectl -f")
        print(f"complete -c edgectl -n __fish_use_subcommand -a '{words}'")
        for name, flags in commands.items():
            seen = f"-n '__fish_seen_subcommand_from {name}'"
            for flag in flags:
                print(f"complete -c edgectl {seen} -l {flag.removeprefix('--')}")
        print(f"complete -c edgectl -n '__fish_seen_subcommand_from {' '.join(_SHOWN)}' -a '{kinds}'")
        print("complete -c edgectl -n '__fish_seen_subcommand_from top' -a 'node pod'")
        print("complete -c edgectl -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'")
        print("complete -c edgectl -n '__fish_seen_subcommand_from apply delete' -s f -r -F")
        return 0
    cases = "\n".join(f"    {name}) flags='{' '.join(flags)}' ;;" for name, flags in commands.items())
    if options.shell == "zsh":
        print("autoload -Uz bashcompinit && bashcompinit")
    print(f"""\
_edgectl() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
  local command="" flags="" word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$word" in --) COMPREPLY=(); return ;; esac  # what follows is for a container
    [ -n "$command" ] && continue
    case "$word" in {"|".join(commands)}) command="$word" ;; esac
  done
  case "$command" in
{cases}
    *) COMPREPLY=($(compgen -W '{words}' -- "$current")); return ;;
  esac
  case "$command:$previous" in
    apply:-f|delete:-f|*:--filename|*:--config) COMPREPLY=($(compgen -f -- "$current")); return ;;
  esac
  case "$previous" in
    -o|--output) COMPREPLY=($(compgen -W '{" ".join(OUTPUTS)}' -- "$current")); return ;;
    --sort-by) COMPREPLY=($(compgen -W 'cpu memory' -- "$current")); return ;;
    --types) COMPREPLY=($(compgen -W 'Normal Warning' -- "$current")); return ;;
    --for) COMPREPLY=($(compgen -W '{about}' -- "$current")); return ;;
    --address) COMPREPLY=($(compgen -W 'localhost 0.0.0.0 ::' -- "$current")); return ;;
  esac
  case "$current" in -*) COMPREPLY=($(compgen -W "$flags" -- "$current")); return ;; esac
  case "$command" in
    {"|".join(_SHOWN)}) COMPREPLY=($(compgen -W '{kinds}' -- "$current")) ;;
    top) COMPREPLY=($(compgen -W 'node pod' -- "$current")) ;;
    completion) COMPREPLY=($(compgen -W 'bash zsh fish' -- "$current")) ;;
  esac
}}
complete -F _edgectl edgectl""")
    return 0


def _command_options(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """The long options of each command."""
    found: dict[str, list[str]] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub_parser in action.choices.items():
                options = (option for act in sub_parser._actions for option in act.option_strings)
                found[name] = sorted(option for option in options if option.startswith("--"))
    return found
