"""Reading what others may have written: YAML, JSON, NumPy archives and weights, bounded before anything is built.

A file is looked at before it is opened (a regular file, not too large), YAML is counted while it is parsed, JSON and
arrays are held against a schema; nothing is unpickled and no text is run. Whatever is wrong is a SeldError.
"""

from __future__ import annotations

import csv
import io
import json
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from dcase_seld.core.config import describe_errors
from dcase_seld.core.errors import SeldError, listing, reason

KeyPath = tuple[str | int, ...]

LARGEST_YAML, LARGEST_JSON, LARGEST_TABLE = 1_000_000, 64_000_000, 16_000_000
"""Most bytes of a YAML file, of a JSON file and of a table of a user's."""

MOST_VALUES, DEEPEST = 20_000, 50
"""Most values of a YAML text, those that aliases and merge keys repeat counted each time; deepest nesting."""

LONGEST_NUMBER = 100
"""Most characters of a number."""

MERGE_KEY = "<<"
"""YAML's key for taking over another mapping's keys; those written beside it win."""

_TAG = "tag:yaml.org,2002:"

_PLAIN = {f"{_TAG}{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "merge")}


def read_bytes(path: Path, most: int, remedy: str) -> bytes:
    """Return the content of a regular file of at most `most` bytes.

    Raises:
        SeldError: it is missing, a folder, a pipe or a device, too large, or cannot be read.
    """
    try:
        mode, size = path.stat().st_mode, path.stat().st_size
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device"
            raise SeldError(f"{path} is {kind}, not a file.", remedy)
        if size > most:
            raise SeldError(f"{path} has {size:,} bytes; at most {most:,} are expected.", remedy)
        with path.open("rb") as stream:
            return stream.read(most + 1)
    except FileNotFoundError as error:
        raise SeldError(f"There is no file {path}.", remedy) from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise SeldError(f"{path} cannot be read: {reason(error)}.", remedy) from error


def read_text(path: Path, most: int = LARGEST_YAML, remedy: str = "Give a text file in UTF-8.") -> str:
    """Return the text of a regular file in UTF-8, without a byte order mark.

    Raises:
        SeldError: see `read_bytes`; or it is no UTF-8.
    """
    try:
        return read_bytes(path, most, remedy).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SeldError(f"{path} cannot be read as text: byte {error.start:,} is no UTF-8.", remedy) from error


def read_table(path: Path, remedy: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the columns and the rows of a CSV file with a header, each with its line; missing cells are "".

    Raises:
        SeldError: see `read_text`; or it is no CSV.
    """
    text = io.StringIO(read_text(path, LARGEST_TABLE, remedy), newline="")
    try:
        table = csv.DictReader(text, restval="")
        table.fieldnames = [name.strip() for name in table.fieldnames or ()]
        return list(table.fieldnames), [(table.line_num, row) for row in table]
    except csv.Error as error:
        raise SeldError(f"{path} cannot be read: {error}.", remedy) from error


class _Bounded(yaml.SafeLoader):
    """A safe loader that counts nodes and levels while it composes them; aliases may be refused."""

    aliases = True

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.nodes = self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose the next node, unless there are too many or too deep ones already."""
        self.nodes += 1
        self.depth += 1
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self.nodes > MOST_VALUES:
            _refuse(event, f"more than {MOST_VALUES:,} values")
        if self.depth > DEEPEST:
            _refuse(event, f"nested too deeply (more than {DEEPEST} levels)")
        if not self.aliases and isinstance(event, yaml.AliasEvent):
            _refuse(event, "uses aliases (*name), which can unfold without end; write values out")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Yaml12(_Bounded):
    """YAML 1.2's plain scalars: `1e-3` is a number, `off` a word, `010` ten."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]


class _Yaml11(_Bounded):
    """YAML 1.1 as the challenge's own programs read it; dates stay text."""

    aliases = False
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        first: [(tag, pattern) for tag, pattern in known if tag in _PLAIN]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


for _kind, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
):
    _firsts: list[Any] = [*_first, ""] if _kind == "null" else list(_first)
    _Yaml12.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(f"^(?:{_pattern})$"), _firsts)

_Yaml12.add_constructor(f"{_TAG}int", lambda loader, node: int(node.value, 10))


def _refuse(place: Any, problem: str) -> None:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


class YamlReader:
    """Turns a YAML text into plain data; a subclass may note lines, pass over repeated keys, or change texts.

    Every value is built afresh where an alias or a merge key repeats it, and counted each time.
    """

    def __init__(self, where: str, remedy: str = "Mend it.", version: str = "1.2") -> None:
        """Take what messages call the text, the remedy, and YAML's version ("1.1" refuses aliases)."""
        self.where, self.remedy = where, remedy
        self.loader: Any = _Yaml12 if version == "1.2" else _Yaml11
        self.values = 0

    def read(self, text: str) -> Any:
        """Return the data of a text; an empty one is None.

        Raises:
            SeldError: it is no YAML, uses tags, repeats a key, or is too large; names the line.
        """
        loader: Any = None
        try:
            loader = self.loader(text)
            node = loader.get_single_node()
            if node is None:
                return None
            self.placed((), node.start_mark.line + 1)
            return self._value(loader, node, ())
        except yaml.MarkedYAMLError as error:
            line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
            raise SeldError(f"{self.where}{line}: not readable as YAML: {error.problem}.", self.remedy) from error
        except (yaml.YAMLError, RecursionError) as error:
            first = str(error).partition("\n")[0] or "nested too deeply"
            raise SeldError(f"{self.where}: not readable as YAML: {first}.", self.remedy) from error
        finally:
            if loader is not None:
                loader.dispose()

    def placed(self, where: KeyPath, line: int) -> None:
        """Hear in which line a value is written."""

    def twice(self, where: KeyPath, line: int) -> None:
        """Hear that a key is given again: the first one stays, unless this raises."""
        raise SeldError(f"{self.where}, line {line}: {'.'.join(map(str, where))} is given twice.", self.remedy)

    def replaced(self, where: KeyPath, old: Any) -> None:
        """Hear that a value which was taken over gives way to one written beside the merge key."""

    def text(self, value: str, where: KeyPath) -> str:
        """Return what stands for a text."""
        return value

    def _value(self, loader: Any, node: Any, where: KeyPath) -> Any:
        self.values += 1
        if self.values > MOST_VALUES:
            _refuse(node, f"more than {MOST_VALUES:,} values")
        if len(where) > DEEPEST:
            _refuse(node, "nested too deeply")
        if node.tag not in _PLAIN:
            _refuse(node, "tags (!…) are not used here")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, where)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self.placed((*where, index), item.start_mark.line + 1)
                items.append(self._value(loader, item, (*where, index)))
            return items
        value = self._scalar(loader, node)
        return self.text(value, where) if isinstance(value, str) else value

    def _scalar(self, loader: Any, node: Any) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if kind in ("int", "float") and len(node.value) > LONGEST_NUMBER:
            _refuse(node, f"a number of {len(node.value):,} characters")
        if kind == "merge":
            return str(node.value)
        try:
            return loader.construct_object(node)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError):
            _refuse(node, f"{node.value[:LONGEST_NUMBER]!r} is no {kind}")

    def _mapping(self, loader: Any, node: Any, where: KeyPath) -> dict[Any, Any]:
        inherited = self._inherited(loader, node, where)
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _PLAIN:
                _refuse(key_node, "keys are plain words")
            key, line = self._scalar(loader, key_node), key_node.start_mark.line + 1
            if key == MERGE_KEY:
                continue
            place = (*where, key)
            if key in inherited:
                self.replaced(place, inherited.pop(key))
            if key in mapping:
                self.twice(place, line)
                continue
            self.placed(place, line)
            mapping[key] = self._value(loader, value_node, place)
        return {**inherited, **mapping}

    def _inherited(self, loader: Any, node: Any, where: KeyPath) -> dict[Any, Any]:
        """Return what a mapping takes over by `<<: *other` or `<<: [*one, *other]`, of which the first named wins."""
        inherited: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if key_node.value != MERGE_KEY:
                continue
            given = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for other in reversed(given):
                if not isinstance(other, yaml.MappingNode):
                    _refuse(other, "<< takes mappings")
                # One level more, though the place is the same: what takes itself over must end.
                inherited |= self._value(loader, other, (*where, MERGE_KEY))
        return inherited


def parse_yaml(text: str, where: str, remedy: str = "Mend it.", version: str = "1.2") -> Any:
    """Return the plain data of a YAML text, see `YamlReader`."""
    return YamlReader(where, remedy, version).read(text)


def read_yaml(path: Path, what: str, remedy: str = "Give a readable YAML file.") -> dict[str, Any]:
    """Return the mapping in a YAML file of a user's; `what` it is ("The team file").

    Raises:
        SeldError: it cannot be read, is no YAML, or no mapping.
    """
    data = parse_yaml(read_text(path, LARGEST_YAML, remedy), f"{what} {path}", remedy)
    if not isinstance(data, dict):
        raise SeldError(f"{what} {path} must hold a mapping.", remedy)
    return data


class Facts(BaseModel):
    """The base of schemas of JSON files: types are not converted, keys that are not named are let through."""

    model_config = ConfigDict(extra="allow", strict=True)


Schema = TypeVar("Schema", bound=BaseModel)


def read_json(path: Path, schema: type[BaseModel] | None = None, remedy: str = "Make it again.") -> dict[str, Any]:
    """Return the object in a JSON file as plain data, after holding it against a schema.

    Raises:
        SeldError: it cannot be read, is no JSON object, or is not as the schema says; every fault is listed.
    """
    try:
        data = json.loads(read_text(path, LARGEST_JSON, remedy))
    except (ValueError, RecursionError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else error
        raise SeldError(f"{path} cannot be read as JSON: {said}.", remedy) from error
    if not isinstance(data, dict):
        raise SeldError(f"{path} holds a {type(data).__name__}; a JSON object is expected.", remedy)
    if schema is not None:
        try:
            schema.model_validate(data)
        except ValidationError as error:
            raise SeldError(f"{path} is damaged: {listing(describe_errors(error, schema))}.", remedy) from error
    return data


def read_arrays(path: Path, columns: Mapping[str, str], optional: Mapping[str, str], remedy: str) -> dict[str, Any]:
    """Return the arrays of an .npz file: columns of one axis and of the kinds that are named.

    Args:
        path: the file.
        columns: name → allowed kinds of NumPy's dtypes ("iu" whole numbers, "f", "b", "U", "": anything of any
            axes); all must be there.
        optional: the same of columns that may be there; others are passed over.
        remedy: what to do about a damaged file.

    Raises:
        SeldError: it cannot be read, a column is missing or of another kind, or far more would be unpacked than a file
            of its size holds.
    """
    import numpy as np

    try:
        if not path.is_file():
            raise SeldError(f"There is no file {path}.", remedy)
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > max(2**28, 100 * path.stat().st_size):
            raise SeldError(f"{path} would unpack to {size:,} bytes.", remedy)
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in columns if name not in arrays.files]
            if missing:
                raise SeldError(f"{path} lacks the column {listing(missing)}.", remedy)
            found = {name: arrays[name] for name in (*columns, *optional) if name in arrays.files}
    except SeldError:
        raise
    except Exception as error:  # NumPy, zipfile and zlib share no class of errors for damaged bytes
        raise SeldError(f"{path} is damaged: {error or type(error).__name__}.", remedy) from error
    for name, kinds in {**columns, **optional}.items():
        array = found.get(name)
        if array is not None and kinds and (array.ndim != 1 or array.dtype.kind not in kinds):
            raise SeldError(f"{path}: the column {name} has shape {array.shape} of {array.dtype}.", remedy)
    return found
