"""``gptbench completion bash|zsh|fish``: a completion script, made from the argument parser.

The script holds every verb and option as text, so that completing starts no Python. Runs are completed from the runs
folder ($GPTBENCH_RUNS, else ./runs); everything else that is no option is left to the shell's file names.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True)
class Verb:
    """A verb as it is typed (``data stats``), the words that may follow it with their help, whether it takes a run."""

    path: str
    words: dict[str, str]
    takes_run: bool


def verbs(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[Verb]:
    """Every verb of a parser, the command itself first (its path is "")."""
    words: dict[str, str] = {}
    children: list[tuple[str, argparse.ArgumentParser]] = []
    takes_run = False
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, child in action.choices.items():
                words[name] = helps.get(name, "")
                children.append((name, child))
        elif action.option_strings:
            if action.help != argparse.SUPPRESS:
                words |= dict.fromkeys(action.option_strings, action.help or "")
        elif action.choices:
            words |= dict.fromkeys(map(str, action.choices), "")
        elif "RUN" in str(action.metavar or "").split("|"):
            takes_run = True
    yield Verb(" ".join(path), words, takes_run)
    for name, child in children:
        yield from verbs(child, (*path, name))


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion script of a shell, one of ``SHELLS``."""
    found = list(verbs(parser))
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](found)


def completion(args: argparse.Namespace) -> int:
    """``gptbench completion``: print the script."""
    from workbench.cli import build_parser

    print(script(build_parser(), args.shell), end="")
    return 0


_BASH = """\
# gptbench completion for bash: source it, or save it as ~/.local/share/bash-completion/completions/gptbench
_gptbench() {
  local cur="${COMP_WORDS[COMP_CWORD]}" verb="" word words="" runs="" i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    case "$word" in --runs) runs="${COMP_WORDS[i + 1]}" ;; esac
    case "${verb:+$verb }$word" in
      KNOWN) verb="${verb:+$verb }$word" ;;
    esac
  done
  case "$verb" in
CASES
  esac
  case "$verb" in
    RUNVERBS)
      if [[ "$cur" != -* ]]; then
        runs="${runs:-${GPTBENCH_RUNS:-runs}}"
        local dir
        for dir in "$runs"/*/; do
          dir="${dir%/}"; dir="${dir##*/}"
          if [[ -d "$runs/$dir" && "$dir" == "$cur"* ]]; then COMPREPLY+=("$(printf %q "$dir")"); fi
        done
      fi ;;
  esac
  while IFS= read -r word; do
    if [[ -n "$word" ]]; then COMPREPLY+=("$word"); fi
  done < <(compgen -W "$words" -- "$cur")
}
complete -o default -o bashdefault -F _gptbench gptbench
"""


def _bash(found: list[Verb]) -> str:
    cases = "\n".join(f'    "{verb.path}") words="{" ".join(sorted(verb.words))}" ;;' for verb in found)
    known = "|".join(f'"{verb.path}"' for verb in found if verb.path)
    runs = "|".join(f'"{verb.path}"' for verb in found if verb.takes_run)
    return _BASH.replace("KNOWN", known).replace("CASES", cases).replace("RUNVERBS", runs)


def _zsh(found: list[Verb]) -> str:
    """zsh runs bash's function through its own bashcompinit."""
    lead = "# gptbench completion for zsh: source it from ~/.zshrc\nautoload -Uz compinit bashcompinit\n"
    return lead + "(( $+functions[compdef] )) || compinit\nbashcompinit\n" + _bash(found)


def _fish(found: list[Verb]) -> str:
    lines = [
        "# gptbench completion for fish: pipe it to source, or save it as ~/.config/fish/completions/gptbench.fish",
        "function __gptbench_verb",
        "  set -l verb",
        "  for word in (commandline -opc)[2..-1]",
        '    switch "$verb $word"',
        *(f'      case "{"" if " " in v.path else " "}{v.path}"; set verb "{v.path}"' for v in found if v.path),
        "    end",
        "  end",
        '  echo -n "$verb"',
        "end",
        "function __gptbench_at",
        '  set -l at (__gptbench_verb); test "$at" = "$argv[1]"',
        "end",
        "function __gptbench_runs",
        '  set -l root $GPTBENCH_RUNS; test -n "$root"; or set root runs',
        "  for run in $root/*/; path basename $run; end",
        "end",
    ]
    for verb in found:
        when = f'__gptbench_at "{verb.path}"'
        lead = f"complete -c gptbench -n {_fish_quoted(when)}"
        for word, text in sorted(verb.words.items()):
            flag = f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}" if word[0] == "-" else f"-a {word}"
            lines.append(f"{lead} {flag} -d {_fish_quoted(text.partition(' (')[0])}")
        if verb.takes_run:
            lines.append(f"{lead} -a '(__gptbench_runs)'")
    return "\n".join(lines) + "\n"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
