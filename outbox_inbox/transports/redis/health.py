"""What is wrong with a Redis server, or with the groups that read from it, before it costs messages."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from outbox_inbox.contexts import Context

from .client import HIREDIS_AVAILABLE, Client, ResponseError, command, error_text
from .groups import Group, Id, groups_of, id_text, oldest_pending, parse_id
from .options import Options
from .stream_names import StreamNames, is_about_key

_MINIMUM = (7, 0)


def problems(
    client: Client, streams: StreamNames, users: Sequence[Context], options: Options
) -> Iterator[str]:
    """Yield what is wrong, each as a sentence with a way out."""
    if not HIREDIS_AVAILABLE:
        yield (
            "The package hiredis is not installed: receiving from Redis works, but parsing takes "
            "many times as long; pip install 'outbox_inbox[redis]'"
        )
    reply, save = client.ask(command("INFO"), command("CONFIG", "GET", "save"))
    client.check([reply])
    lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    info = {name: value for name, _, value in lines if value}
    clustered = info.get("cluster_enabled") == "1"
    for problem in (_version_problem(info), *_server_problems(info, save, clustered=clustered)):
        if problem is not None:
            yield f"Redis at {client.address} {problem}"
    if clustered:
        return  # each stream may be on another node
    names = _used_streams(streams, users)
    yield from _trimming_problems(client, names)
    yield from _lagging_groups(client, names, options.max_age)


def _version_problem(info: Mapping[str, str]) -> str | None:
    found = info.get("redis_version", "")
    numbers = tuple(int(each) for each in found.split(".")[:2] if each.isdecimal())
    if numbers >= _MINIMUM:
        return None
    return f"is version {found or 'unknown'}; use 7.0 or newer, which counts unread entries"


def _server_problems(info: Mapping[str, str], save: Any, *, clustered: bool) -> Iterator[str]:
    if clustered:
        yield (
            "is part of a cluster, which this transport does not support; use a single server with "
            "a replica"
        )
    elif info.get("role", "master") != "master":
        yield "is a replica, which accepts no writes; set the URL of its primary"
    if info.get("aof_enabled") != "1":
        snapshots = not isinstance(save, ResponseError) and bool(save) and bool(save[1])
        lost = "all messages since its last snapshot" if snapshots else "all its messages"
        yield (
            f"has no append-only file: a crash loses {lost}, although they were confirmed; set "
            "appendonly yes"
        )
    policy = info.get("maxmemory_policy", "")
    if policy.startswith("allkeys"):
        yield (
            f"has maxmemory-policy {policy}: when its memory is full it deletes whole streams; set "
            "noeviction or a volatile policy"
        )


def _used_streams(streams: StreamNames, users: Sequence[Context]) -> list[str]:
    for user in users:
        streams.discover_streams(user)
    read = [name for user in users for name in streams.found(user)]
    return list(dict.fromkeys([*(streams.name(user.label, 0) for user in users), *read]))


def _trimming_problems(client: Client, names: list[str]) -> Iterator[str]:
    """Try to trim a stream; every id is above 0, so nothing is deleted."""
    for stream in names[:1]:
        (reply,) = client.ask(command("XTRIM", stream, "MINID", "0"))
        if isinstance(reply, ResponseError):
            yield (
                f"Redis at {client.address} does not allow this user to trim streams ({reply}), so "
                "they grow without limit; grant it XINFO, XPENDING and XTRIM"
            )


def _lagging_groups(client: Client, names: list[str], max_age: timedelta) -> Iterator[str]:
    """Yield the groups that have not read an entry older than ``max_age``; they block trimming."""
    (clock,) = client.ask_strictly(command("TIME"))
    limit = int(clock[0]) * 1000 - max_age // timedelta(milliseconds=1)
    for stream in names:
        (groups,) = client.ask(command("XINFO", "GROUPS", stream))
        if is_about_key(groups):
            yield (
                f"Redis at {client.address} does not let {stream} be read or written as a stream "
                f"({error_text(groups)}); what others there are is read meanwhile. Delete or rename "
                "a key of another type, grant the user this key, or choose another PREFIX"
            )
        for group in groups_of(groups):
            oldest = _oldest_unread(client, stream, group)
            if oldest is not None and oldest[0] < limit:
                yield (
                    f"The group {group.label!r} has entries of {stream} unread for more than "
                    f"{max_age} (MAX_AGE), and nothing is deleted until it has read them; let the "
                    "context receive again, or, if it was retired, delete its group: "
                    f"XGROUP DESTROY {stream} {group.label}"
                )


def _oldest_unread(client: Client, stream: str, group: Group) -> Id | None:
    """Return the first entry that a group has not acknowledged; None if it has read everything."""
    after = f"({id_text(group.delivered)}"
    pending, unread = client.ask_strictly(
        command("XPENDING", stream, group.label),
        command("XRANGE", stream, after, "+", "COUNT", 1),
    )
    return oldest_pending(pending) or (parse_id(unread[0][0]) if unread else None)
