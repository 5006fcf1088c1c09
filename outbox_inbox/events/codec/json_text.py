"""JSON text that may be hostile: measured before it is parsed, and parsed strictly.

What passes here is a JSON object that means the same to every reader: no key twice, no number
out of range, no text that a database or UTF-8 cannot hold.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from outbox_inbox.exceptions import UnreadableMessage

MAX_DEPTH: Final = 64
MAX_NODES: Final = 10_000

# Possessive, and the last quote may be missing: linear also on text that is made to be slow.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_EMPTY = re.compile(r"\[\s*+\]|\{\s*+\}")
_BRACKET = re.compile(r"[\[\]{}]")
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b'{}[]"\\'))


def text_problem(text: str) -> str | None:
    """Return what makes a text unfit to be stored, or None: a NUL character or a lone surrogate.

    PostgreSQL takes no NUL, and a lone surrogate has no UTF-8.
    """
    if "\0" in text:
        return f"holds a NUL character at position {text.index(chr(0))}"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return f"holds a lone surrogate at position {error.start}"
    return None


def limit_problem(data: str, max_payload: int) -> str | None:
    """Return which limit a JSON text exceeds, or None; in linear time and without parsing it.

    The limits are ``max_payload`` bytes of UTF-8, 64 levels of objects and arrays, and 10,000
    nodes, which are all values: objects, arrays and what is in them; names are not counted.
    """
    if len(data) > max_payload or not data.isascii():
        size = len(data.encode(errors="surrogatepass"))
        if size > max_payload:
            return f'has {size} bytes, and OUTBOX_INBOX["MAX_PAYLOAD"] allows {max_payload}'
    containers = data.count("{") + data.count("[")
    # Brackets and commas inside of strings can only make these counts too high.
    few = containers + data.count(",") < MAX_NODES
    if few and (containers <= MAX_DEPTH or _is_surely_shallow(data)):
        return None
    return _structure_problem(_STRING.sub("0", data))


def check_limits(data: str, max_payload: int) -> None:
    """Refuse a JSON text that exceeds a limit, before anything parses it; see `limit_problem`.

    Raises:
        UnreadableMessage: it is too large, too deep or has too many nodes.
    """
    if problem := limit_problem(data, max_payload):
        raise UnreadableMessage(f"the JSON text {problem}")


def load_object(data: str) -> dict[str, Any]:
    """Parse a JSON object, strictly.

    Raises:
        UnreadableMessage: it is not valid JSON (RFC 8259) or not an object; an object has a key
            twice; a number is NaN, infinite, beyond a float's range or longer than 4,300 digits; a
            text holds a NUL character or a lone surrogate.
    """
    try:
        tree = _DECODER.decode(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableMessage(f"the text is not acceptable JSON: {error}") from error
    if not isinstance(tree, dict):
        raise UnreadableMessage(f"the JSON text is not an object, but {_JSON_KINDS[type(tree)]}")
    # A NUL or a surrogate may be escaped: then it is visible only in the parsed texts.
    texts = [data, *_texts(tree)] if "\\u" in data else [data]
    for problem in filter(None, map(text_problem, texts)):
        raise UnreadableMessage(f"a text in the JSON {problem}")
    return tree


def _is_surely_shallow(data: str) -> bool:
    """Return in a few fast passes whether a text is surely not too deep; False means "unknown".

    Everything but quotes and brackets is removed, then all pairs of quotes, then one level of
    brackets after another. A string with a bracket in it keeps its quotes, and they stop this.
    """
    brackets = data.encode(errors="surrogatepass").translate(_SQUARE, _NO_BRACKETS)
    if b"\\" in brackets:
        return False
    brackets = brackets.replace(b'""', b"")
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return True
    return False


def _structure_problem(bare: str) -> str | None:
    """Return which limit a text without its strings exceeds: all of it is structure."""
    containers = bare.count("{") + bare.count("[") - len(_EMPTY.findall(bare))
    if containers + bare.count(",") >= MAX_NODES:
        return f"has more than {MAX_NODES:,} nodes"
    depth = 0
    for match in _BRACKET.finditer(bare):
        depth += 1 if match[0] in "[{" else -1
        if depth > MAX_DEPTH:
            return f"is nested more than {MAX_DEPTH} levels deep"
        if depth <= 0:
            break  # The end, or malformed text, which the parser reports.
    return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # json keeps the last of two equal keys, other readers the first: a message could be checked by
    # the one and acted upon by the other.
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"one object has the key {twice[:50]!a} twice")
    return found


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:50]} is out of range")
    return number


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_float, parse_constant=_constant
)
_JSON_KINDS: Final = {
    list: "an array",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _texts(tree: Any) -> Iterator[str]:
    """Yield every text and key in a tree that is at most 64 levels deep."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, list):
        for item in tree:
            yield from _texts(item)
    elif isinstance(tree, dict):
        for key, item in tree.items():
            yield key
            yield from _texts(item)
