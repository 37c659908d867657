"""YAML 1.2 text as plain values that remember their places: what :mod:`adm_core.yaml_file` reads files with."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.tag import Tag

_CORE_SCHEMA = {
    "null": re.compile(r"~|null|Null|NULL|"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    "float": re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
    "merge": re.compile(r"<<"),
}
"""What an unquoted word is, by section 10.3.2 of the YAML 1.2 specification, and the merge key of YAML 1.1."""

_PREFIX = "tag:yaml.org,2002:"


class YamlFault(Exception):
    """What is wrong with a text.

    Attributes:
        place: ``line 3, column 5``, counted from 1; empty where it is not known.
    """

    def __init__(self, message: str, place: str) -> None:
        super().__init__(message)
        self.place = place


class Document:
    """One YAML text.

    Args:
        text: the text.

    Attributes:
        value: what it says, of dictionaries, lists, text, numbers, booleans and None; None where the text is empty.

    Raises:
        YamlFault: the text is not YAML, holds several documents, gives a key twice in one mapping, refers to what it
            is itself a part of, or has a tag or a key that plain values cannot express.
    """

    def __init__(self, text: str) -> None:
        self._root = _compose(text)
        self._built: dict[int, Any] = {}
        self._open: set[int] = set()
        self.value: Any = None if self._root is None else self._value(self._root)

    def place(self, keys: Sequence[int | str]) -> str:
        """``line 3, column 5`` of the last of these keys, each inside of the one before, that the text has.

        Args:
            keys: of mappings, and positions in lists.
        """
        node, found = self._root, ""
        for key in keys:
            inner = _inner(node, key)
            if inner is None:
                break
            mark, node = inner
            found = _place(mark)
        return found

    def _value(self, node: Node) -> Any:
        """The value of a node, the same object wherever an alias stands for it."""
        if isinstance(node, ScalarNode):
            return _scalar(node)
        if id(node) not in self._built:
            if id(node) in self._open:
                raise YamlFault("an alias stands inside of what it refers to", _place(node.start_mark))
            self._open.add(id(node))
            self._built[id(node)] = self._collection(node)
            self._open.remove(id(node))
        return self._built[id(node)]

    def _collection(self, node: Node) -> dict[Hashable, Any] | list[Any]:
        if node.tag not in (f"{_PREFIX}map", f"{_PREFIX}seq"):
            raise _unknown_tag(node)
        if isinstance(node, SequenceNode):
            return [self._value(item) for item in node.value]
        seen: dict[Hashable, Node] = {}
        merged: dict[Hashable, Any] = {}
        own: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = _key(key_node)
            if key in seen:
                first = _place(seen[key].start_mark)
                raise YamlFault(f"key '{key}' is given twice, first in {first}", _place(key_node.start_mark))
            seen[key] = key_node
            if not _merges(key_node):
                own[key] = self._value(value_node)
                continue
            for source in _sources(value_node):
                merged = self._value(source) | merged
        return merged | own


def _compose(text: str) -> Node | None:
    """The tree of nodes of a text, by the parser in Python: the one in C words its messages otherwise."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver = _CoreSchema
    yaml.composer.warn_double_anchors = False  # YAML lets an anchor be given anew
    try:
        return yaml.compose(text)  # type: ignore[no-any-return]
    except ReaderError as error:
        before = text[: error.position]
        place = f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"
        raise YamlFault(f"is not YAML: the character U+{error.character:04X} may not stand in it", place) from None
    except MarkedYAMLError as error:
        context = f"{error.context} ({_place(error.context_mark)}): " if error.context and error.context_mark else ""
        raise YamlFault(f"is not YAML: {context}{error.problem}", _place(error.problem_mark)) from None
    except YAMLError as error:
        raise YamlFault(f"is not YAML: {' '.join(str(error).split())}", "") from None


class _CoreSchema(VersionedResolver):
    """Decides by the core schema alone what an unquoted word is: in every file, whatever version it claims.

    ruamel.yaml's own rules take ``.5e3`` for text, and ``1_000`` and ``2020-01-01`` for more than that.
    """

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Tag:
        """The tag of a node without one of its own."""
        if kind is ScalarNode and implicit[0]:
            for name, pattern in _CORE_SCHEMA.items():
                if pattern.fullmatch(value):
                    return Tag(suffix=f"{_PREFIX}{name}")
        defaults: dict[Any, Tag] = {SequenceNode: self.DEFAULT_SEQUENCE_TAG, MappingNode: self.DEFAULT_MAPPING_TAG}
        return defaults.get(kind, self.DEFAULT_SCALAR_TAG)


def _scalar(node: ScalarNode) -> Any:
    kind, text = str(node.tag).removeprefix(_PREFIX), node.value
    try:
        if kind == "int":
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        raise YamlFault(f"'{text}' is not a number, as its tag says", _place(node.start_mark)) from None
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind not in ("str", "merge"):
        raise _unknown_tag(node)
    return text


def _key(node: Node) -> Hashable:
    if not isinstance(node, ScalarNode):
        raise YamlFault("a key should be text, not a list or a mapping", _place(node.start_mark))
    key: Hashable = _scalar(node)
    return key


def _merges(key: Node) -> bool:
    return bool(key.tag == f"{_PREFIX}merge")


def _sources(node: Node) -> list[MappingNode]:
    """The mappings that ``<<`` takes over, the one that goes before the others first."""
    sources = node.value if isinstance(node, SequenceNode) else [node]
    for source in sources:
        if not isinstance(source, MappingNode):
            raise YamlFault("'<<' takes over a mapping or a list of mappings", _place(node.start_mark))
    return list(sources)


def _inner(node: Node | None, key: int | str) -> tuple[Any, Node] | None:
    """The mark of a key or list position, and the node under it."""
    if isinstance(node, SequenceNode):
        there = isinstance(key, int) and 0 <= key < len(node.value)
        return (node.value[key].start_mark, node.value[key]) if there else None
    return next((found for name, *found in _entries(node) if name == str(key)), None)  # type: ignore[return-value]


def _entries(node: Node | None) -> Iterator[tuple[str, Any, Node]]:
    """Key as text, its mark and the node under it; keys of the mapping itself before those that it takes over."""
    pairs = node.value if isinstance(node, MappingNode) else []
    for key, value in pairs:
        if not _merges(key):
            yield str(_key(key)), key.start_mark, value
    for key, value in pairs:
        if _merges(key):
            for source in _sources(value):
                yield from _entries(source)


def _unknown_tag(node: Node) -> YamlFault:
    tag = str(node.tag).replace(_PREFIX, "!!")
    return YamlFault(f"tag '{tag}' is not known; plain values need none", _place(node.start_mark))


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
