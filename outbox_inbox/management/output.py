"""Writes text to a terminal that cannot encode all of it.

A terminal of ASCII, Latin-1 or code page 437 has no "…", and not every character of a key. Without
this, the first such character would end a command with a traceback in the middle of its output.
"""

from typing import Any

from django.core.management.base import OutputWrapper

# Error handlers of a stream; in the locale C the standard output has "surrogateescape", which raises.
_NEVER_RAISE = ("replace", "ignore", "backslashreplace", "xmlcharrefreplace", "namereplace")


def encodable(output: OutputWrapper, *, json: bool = False) -> OutputWrapper:
    """Return output to the same stream, which escapes what the stream cannot encode.

    Arguments:
        json: the text is JSON, and stays the same value to a parser, also on a stream that would
            replace characters itself.
    """
    stream: Any = output
    while isinstance(stream, OutputWrapper):  # its own attribute ``encoding`` is always None
        stream = stream._out  # noqa: SLF001  Django has no other access to it
    encoding = getattr(stream, "encoding", None)
    never_raises = getattr(stream, "errors", None) in _NEVER_RAISE
    if not isinstance(encoding, str) or (never_raises and not json):
        return output
    escaping: Any = _Escaping(stream, encoding, json=json)
    found = OutputWrapper(escaping)
    found.ending = output.ending
    found.style_func = output.style_func
    return found


class _Escaping:
    """A stream that escapes what it cannot encode."""

    def __init__(self, stream: Any, encoding: str, *, json: bool) -> None:
        self._stream, self._encoding, self._json = stream, encoding, json

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> Any:
        """Write a text with its escapes."""
        return self._stream.write(escaped(text, self._encoding, json=self._json))


def escaped(text: str, encoding: str, *, json: bool = False) -> str:
    """Return a text with escapes for what an encoding does not have.

    Arguments:
        json: an ellipsis is escaped as any other character; default: it becomes three dots.
    """
    try:
        text.encode(encoding)
    except LookupError:
        return text
    except UnicodeEncodeError:
        shown = text if json else text.replace("…", "...")
        return "".join(each if _has(encoding, each) else _escape(each) for each in shown)
    return text


def _has(encoding: str, character: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escape(character: str) -> str:
    """Return the escape that JSON has for a character, which Python's errors use as well."""
    units = character.encode("utf-16-be", "surrogatepass")
    pairs = (units[at : at + 2].hex() for at in range(0, len(units), 2))
    return "".join(f"\\u{pair}" for pair in pairs)
