"""Write the pages of all stages and of all commands, from the code: `python docs/make_reference.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from dcase_seld.cli.main import COMMANDS, main
from dcase_seld.cli.recipes import groups_once, registry
from dcase_seld.recipe.keys import Key
from dcase_seld.recipe.stage import Stage, first_line

RECIPES = """# Recipe reference

Every stage with its keys. Made from the configuration classes by `python docs/make_reference.py`; on the command line
`dcase-seld stages STAGE` and `dcase-seld explain KEY` say the same.

*step → store* names a step that makes a store; *path* is data outside the work directory; *run time* does not change
the result, and so re-makes nothing.

"""

LINES = """# Commands

Every command with its options. Made from the commands by `python docs/make_reference.py`; `dcase-seld COMMAND --help`
says the same.
"""


def reference() -> str:
    """Return the page of all stages as Markdown."""
    known = registry()
    stages = [known.load(name) for name in known.names]
    rows = [f"| [{s.name}](#{s.name}) | {s.produces} | {_cell(first_line(s.config))} |\n" for s in stages]
    return "".join([RECIPES, "| stage | makes | in one line |\n|---|---|---|\n", *rows, *map(_stage, stages)])


def _stage(stage: Stage) -> str:
    text = [f"\n## {stage.name}\n\n{stage.about}\n\n{first_line(stage.run)}\n\n"]
    for group, told in groups_once(stage.config):
        if group.place:
            kind = f" with `kind: {group.when}`" if group.when else ""
            same = "" if told is None else f" The keys are those of `{told}`."
            text.append(f"\n`{group.place}`{kind}: {group.about}{same}\n\n")
        if told is not None:
            continue
        text += ["| key | kind | default | |\n|---|---|---|---|\n", *map(_row, group.keys)]
    return "".join(text)


def _row(key: Key) -> str:
    hidden = [name for name in key.choices if name not in key.kind.split()]
    kind = key.kind + (f": {', '.join(key.choices)}" if hidden else "") + ", run time" * key.run_time
    default = f"`{_cell(key.default)}`" if key.default else "**required**"
    return f"| `{key.path}` | {_cell(kind)} | {default} | {_cell(key.about)} |\n"


def commands() -> str:
    """Return the page of all commands as Markdown."""
    context = click.Context(main, info_name="dcase-seld")
    found = [part for name in COMMANDS for part in _command(main.get_command(context, name), f"dcase-seld {name}")]
    return "".join([LINES, *found])


def _command(command: click.Command, words: str) -> Iterator[str]:
    """Yield a command's part of the page, then those of its own commands."""
    context = click.Context(command, info_name=words)
    usage = " ".join([words, *command.collect_usage_pieces(context)])
    paragraphs = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    yield f"\n## {words}\n\n```\n{usage}\n```\n\n{paragraphs}\n"
    rows = [record for one in command.params if (record := one.get_help_record(context)) is not None]
    if rows:
        yield "\n| option | |\n|---|---|\n"
        yield from (f"| `{_cell(name)}` | {_cell(text)} |\n" for name, text in rows)
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        yield from _command(command.get_command(context, name), f"{words} {name}")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


PAGES = {"recipe_reference.md": reference, "commands.md": commands}

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")
        print(f"{folder / name} is written")
