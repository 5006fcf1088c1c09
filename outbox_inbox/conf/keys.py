"""Keys for signatures, read from the settings so that no error, ``repr`` or log can show one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from .section import Section

SHORTEST: Final = 32
"""The least bytes of a key: as many as the hash that is made with it."""

_ID = re.compile(r"[A-Za-z0-9._-]{1,30}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """The key with which a context signs the messages that it publishes.

    Fields:
        keyid: the id of the key, which is sent with each message.
        key: the key; ``repr`` does not show it.
    """

    keyid: str
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifying:
    """How a context verifies the messages of one source.

    Fields:
        keys: by their ids, all that the source may sign with; ``repr`` does not show them.
        required: refuse a message that is not signed; default true.
    """

    keys: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    required: bool = True


def read_signing(section: Section) -> Signing | None:
    """Return ``signing`` of a context; None when it is not set, or wrong."""
    if not section.values:
        return None
    before = len(section.problems)
    keys = _read_keys(section)
    if not keys:
        if len(section.problems) == before:
            section.add_problem("keys", "a dict with at least one key")
        return None
    only = next(iter(keys)) if len(keys) == 1 else ""
    wanted = section.text("sign_with", "the id of one of its keys") or only
    if wanted not in keys:
        section.add_problem("sign_with", f"the id of one of its keys: {', '.join(sorted(keys))}")
        return None
    return Signing(keyid=wanted, key=keys[wanted])


def read_verifying(section: Section) -> Mapping[str, Verifying]:
    """Return ``verifying`` of a context, by the label of the source."""
    return MappingProxyType({source: _read_source(section, source) for source in section.names()})


def _read_source(section: Section, source: str) -> Verifying:
    entry = section.section(source, ("keys", "required"))
    return Verifying(keys=_read_keys(entry), required=entry.flag("required", default=True))


def _read_keys(section: Section) -> Mapping[str, bytes]:
    entries = section.section("keys")
    found = {name: _read_key(entries, name) for name in entries.names()}
    return MappingProxyType({name: key for name, key in found.items() if key is not None})


def _read_key(entries: Section, name: str) -> bytes | None:
    value, path = entries.values[name], entries.path_of(name)
    if isinstance(value, str):
        value = value.encode(errors="surrogatepass")
    if not _ID.fullmatch(name):
        wanted = "1 to 30 letters, digits, dots, hyphens or underscores"
        entries.problems.append(f"{path}: the id of a key has {wanted}")
    elif not isinstance(value, bytes):
        entries.add_problem(name, f"a secret of at least {SHORTEST} bytes, as str or bytes")
    elif len(value) < SHORTEST:
        entries.problems.append(f"{path} has {len(value)} bytes; expected at least {SHORTEST}")
    else:
        return value
    return None
