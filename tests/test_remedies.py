"""Every command, option and key that an error's remedy, a note or a page of the documentation names is there."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import click
import pytest
import yaml
from corpus_made import write_corpus

from dcase_seld.cli.main import COMMANDS, main
from dcase_seld.cli.recipes import registry
from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.core.task import Task
from dcase_seld.corpus.layout import index_corpus
from dcase_seld.corpus.splits import SplitConfig, assign
from dcase_seld.recipe.keys import groups
from dcase_seld.submission.layout import Layout, Team

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dcase_seld"
SAYING = ("SeldError", "say", "SeldWarning")
"""Calls whose texts are read by users."""

GAP = "…"
"""Stands where a text is filled in when it is said."""

NAMES = {
    *("stereo_dev", "metadata_dev", "video_dev", "foa_dev", "stereo_eval", "video_eval", "foa_eval", "mic_dev"),
    *("save_pretrained", "hit_rate", "track_a", "height_m", "git_lfs", "start_frame", "angle_deg", "f_score"),
}
"""Words with an underscore that are names of folders, columns, functions or examples."""


@cache
def tree():
    """Return words of a command → its options, of all commands and of those inside groups."""
    found = {}

    def walk(command, words):
        options = {name for one in command.params if isinstance(one, click.Option) for name in one.opts}
        options |= {name for one in command.params if isinstance(one, click.Option) for name in one.secondary_opts}
        found[words] = options | {"--help", "-h"}
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                walk(command.get_command(context, name), (*words, name))

    walk(main, ())
    found[()] |= {"--version"}
    return found


@cache
def keys():
    """Return the last name of every key of recipes and of the files users write → its choices (empty: any value)."""
    found = {name: [()] for name in (*registry().names, "stage", "about", "steps", "plugins")}
    for name in registry().names:
        for group in groups(registry().load(name).config):
            for key in group.keys:
                last = key.path.rpartition(".")[2]
                nullable = "null" in key.kind or key.default in ("null", "")
                found.setdefault(last, []).append(
                    (*key.choices, *(["null"] if nullable else [])) if key.choices else ()
                )
    for model in (Layout, Team):
        for group in groups(model):
            for key in group.keys:
                found.setdefault(key.path.rpartition(".")[2], []).append(())
    for model in (Taxonomy, Task):
        for name in model.__dataclass_fields__:
            found.setdefault(name, []).append(())
    return found


def wrong_command(text):
    """Return what is wrong with a command line that begins with dcase-seld, or None."""
    try:
        words = [word for word in shlex.split(text.replace("\\\n", " "), comments=True) if word != "\\"]
    except ValueError:
        words = text.split()
    words = words[1:]
    if "|" in words:
        words = words[: words.index("|")]
    if not words or GAP in words[0] or words[0].isupper() or words[0] in ("...",):
        return None
    if words[0].startswith("-"):
        return None if words[0] in tree()[()] else f"no option {words[0]}"
    known = (words[0],)
    if known not in tree():
        return f"no command {words[0]}"
    if any(len(other) == 2 and other[0] == words[0] for other in tree()) and len(words) > 1:
        if words[1].isupper() or GAP in words[1] or words[1].startswith("-"):
            return None
        known = (words[0], words[1])
        if known not in tree():
            return None if tree()[(words[0],)] - {"--help", "-h"} else f"no command {' '.join(known)}"
    options = {re.split("[= ]", word)[0] for word in words if re.match(r"--?[A-Za-z]", word)}
    strange = sorted(options - tree()[known])
    return f"{' '.join(known)} has no option {', '.join(strange)}" if strange else None


def wrong_key(key, value):
    """Return what is wrong with `key: value`, or None; of a dotted key its last part is looked up."""
    name = key.rpartition(".")[2]
    if name not in keys():
        return f"no key {name}"
    value = value.strip("`'\".,;")
    if not value or value[0] in "{[…$<" or value.isupper() or GAP in value:
        return None
    choices = keys()[name]
    if any(not one for one in choices) or any(value in one for one in choices):
        return None
    return f"{name} takes {' or '.join(sorted(set().union(*choices)))}, not {value}"


def wrong_in(text, options=None):
    """Yield what is wrong in a sentence that tells a user what to do."""
    for line in re.findall(r"`(dcase-seld[^`]*)`", text) + re.findall(
        r"(?<!`)(?<![\w/])dcase-seld [a-z-]+ [a-z-]+", text
    ):
        if problem := wrong_command(line):
            yield problem
    known = set().union(*tree().values()) if options is None else options
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text):
        if option not in known:
            yield f"no option {option}"
    plain = re.sub(r"dcase-seld [^`]*`", "", text)
    # Without backquotes, a word before a colon is a key where it is told to be written; else it is prose.
    told = r"(`|[{(]|\b[Ss]et |\b[Uu]se |\band |\bor |\bwith )"
    for before, key, value in re.findall(told + r"([a-z_][a-z_0-9.]*): ([^\s,;)]+)", plain):
        if before not in ("`", "{", "(") and value.startswith(GAP):
            continue
        if problem := wrong_key(key, value):
            yield problem


def texts_of(node):
    """Return the texts of a call's arguments, in order, with GAP where values are filled in."""
    parts = []
    for inner in node.values if isinstance(node, ast.JoinedStr) else [node]:
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            parts.append(inner.value)
        elif isinstance(inner, ast.IfExp):
            parts.append(f"{texts_of(inner.body)} {texts_of(inner.orelse)}")
        elif isinstance(inner, ast.BinOp):
            parts.append(texts_of(inner.left) + texts_of(inner.right))
        else:
            parts.append(GAP)
    return "".join(parts)


def said():
    """Yield (place, remedy) of every error that a user may meet, and (place, text) of every note."""
    for file in sorted(PACKAGE.rglob("*.py")):
        source = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(source):
            name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
            if name in SAYING:
                arguments = [*node.args, *(word.value for word in node.keywords)]
                texts = [texts_of(one) for one in (arguments[1:] if name == "SeldError" else arguments)]
                yield f"{file.relative_to(ROOT)}:{node.lineno}", " ".join(texts)
            # Remedies are also handed on under this name.
            if isinstance(node, ast.Assign) and any(getattr(one, "id", "") == "remedy" for one in node.targets):
                yield f"{file.relative_to(ROOT)}:{node.lineno}", texts_of(node.value)
            if isinstance(node, ast.keyword) and node.arg == "remedy":
                yield f"{file.relative_to(ROOT)}:{node.value.lineno}", texts_of(node.value)


def test_remedies_name_what_is_there():
    wrong = [f"{place}: {problem} ({text})" for place, text in said() for problem in wrong_in(text)]
    assert not wrong, "\n".join(wrong)


def test_words_with_underscores_in_remedies_are_keys():
    wrong = []
    choices = {choice for one in keys().values() for several in one for choice in several}
    for place, text in said():
        if place.startswith(("dcase_seld/core/registry", "dcase_seld/scoring")):
            continue  # these are of Python and of columns
        for word in re.findall(r"(?<![\w./`'-])[a-z]+(?:_[a-z0-9]+)+(?![\w(/.])", text):
            if word not in keys() and word not in NAMES | choices:
                wrong.append(f"{place}: {word} ({text})")
    assert not wrong, "\n".join(wrong)


def test_a_command_names_options_of_its_own():
    """What a command's own file advises is an option of one of the commands in that file."""
    wrong = []
    for place, text in said():
        file = place.partition(":")[0]
        if not file.startswith("dcase_seld/cli/") or Path(file).name in ("__init__.py", "main.py"):
            continue
        module = "dcase_seld.cli." + Path(file).stem
        mine = {name for name, (where, _) in COMMANDS.items() if where.partition(":")[0] == module}
        options = set().union(*(known for words, known in tree().items() if words and words[0] in mine))
        named = re.sub(r"`dcase-seld[^`]*`", "", text)
        wrong += [f"{place}: {problem}" for problem in wrong_in(named, options) if problem.startswith("no option")]
    assert not wrong, "\n".join(wrong)


PAGES = [
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in ("log.md", "commands.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "recipes").rglob("*.yaml")),
    *sorted((ROOT / "submission").glob("*.*")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_commands_options_and_keys_that_are_there(page):
    text = page.read_text(encoding="utf-8")
    wrong = []
    if page.suffix == ".yaml":
        text = "\n".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    blocks = re.findall(r"```(?:sh|bash|console|shell)?\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for line in [*lines, *spans, *(text.splitlines() if page.suffix == ".yaml" else [])]:
        command = re.search(r"(?:^|\s)(dcase-seld(?:\s.*)?)$", line.replace("$ ", ""))
        if command and (problem := wrong_command(command[1])):
            wrong.append(f"{line}: {problem}")
    for span in spans:
        if "dcase-seld" in span or "/" in span or page.suffix == ".yaml":
            continue
        if re.fullmatch(r"--[a-z][a-z-]*(?:[ =].*)?", span) and re.split("[ =]", span)[0] not in set().union(
            *tree().values()
        ):
            wrong.append(f"{span}: no such option")
        for key, value in re.findall(r"^\{?([a-z_][a-z_0-9.]*): ([^\s,;)}]+)", span):
            if problem := wrong_key(key, value):
                wrong.append(f"{span}: {problem}")
    assert not wrong, "\n".join(wrong)


def test_the_check_finds_what_is_not_there():
    found = set()
    for text in (
        "Run `dcase-seld trian x`.", "Run `dcase-seld run x --fast`.", "Give --force-weights.", "Set `mirror: true`.",
        "Use mirrors: store.", "Run `dcase-seld data chek x`.",
    ):  # fmt: skip
        found |= set(wrong_in(text))
    assert found == {
        "no command trian", "run has no option --fast", "no option --force-weights", "no key mirrors",
        "mirror takes grid_flip or none or store, not true", "no option --fast", "no command data chek",
    }  # fmt: skip
    for text in ("Run `dcase-seld run x --set a.b=c`.", "Set `mirror: store`.", "Report it: the package changed."):
        assert list(wrong_in(text)) == []
    assert yaml.safe_load("{mirror: store}") == {"mirror": "store"}


def test_advised_splits_can_be_made(tmp_path):
    for mixes, advised in ((2, {"by": "recording"}), (1, {"fraction": 0.0})):
        recordings = [("dev-train-tau", 3, 1, mix) for mix in range(mixes)]
        clips = index_corpus(write_corpus(tmp_path / str(mixes), recordings, windows=2)).clips
        with pytest.raises(SeldError) as refused:
            assign(clips, SplitConfig())
        assert ("by: recording" in refused.value.remedy) == (mixes == 2)
        assert set(assign(clips, SplitConfig(**advised))) <= {"train", "val"}
        for value in re.findall(r"split: (\{[^}]*\})", refused.value.remedy):
            assert assign(clips, SplitConfig(**yaml.safe_load(value)))


def test_the_advised_folder_of_a_data_set_is_the_one(tmp_path):
    root = write_corpus(tmp_path / "unpacked" / "dcase", [("dev-train-tau", 3, 1, 0)], windows=1)
    for wrong in (root.parent, root / "stereo_dev", root / "metadata_dev" / "dev-train-tau"):
        with pytest.raises(SeldError, match="holds no clips in the official layout") as refused:
            index_corpus(wrong)
        advised = re.search(r"(/\S+)\.$", refused.value.remedy)[1]
        assert Path(advised) == root and index_corpus(Path(advised)).clips
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeldError, match="stereo_dev and metadata_dev"):
        index_corpus(tmp_path / "empty")
