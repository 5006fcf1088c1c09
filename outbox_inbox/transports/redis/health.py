"""What is wrong with a Redis server, or with those who read from it, as far as it tells."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from outbox_inbox.contexts import Context

from .groups import Group, Id, groups_of, oldest_pending, parse_id, shown_id
from .link import Link, ResponseError, command
from .options import Options
from .streams import Streams

_OLDEST = (7, 0)


def problems(
    link: Link, streams: Streams, users: Sequence[Context], options: Options
) -> Iterator[str]:
    """Yield what is wrong, each as a sentence with a way out.

    Raises:
        TransportUnavailable: the server cannot be reached.
    """
    told, save = link.ask(command("INFO"), command("CONFIG", "GET", "save"))
    link.check([told])
    info = _info(told)
    for problem in (_version(info), _role(info), _persistence(info, save), _eviction(info)):
        if problem:
            yield f"Redis at {link.place} {problem}"
    if _is_clustered(info):
        return  # the streams are on any of its nodes
    names = _names(streams, users)
    yield from _forbidden(link, names)
    yield from _behind(link, names, options.max_age)


def _info(answer: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in answer.decode("utf-8", "replace").splitlines())
    return {name: value for name, _, value in lines if value}


def _version(info: Mapping[str, str]) -> str | None:
    found = info.get("redis_version", "")
    numbers = tuple(int(each) for each in found.split(".")[:2] if each.isdecimal())
    if numbers >= _OLDEST:
        return None
    return f"is version {found or 'unknown'}; use 7.0 or newer, which counts what is unread"


def _is_clustered(info: Mapping[str, str]) -> bool:
    return info.get("cluster_enabled") == "1"


def _role(info: Mapping[str, str]) -> str | None:
    if _is_clustered(info):
        return (
            "is part of a cluster, which this transport does not know how to follow; use a single "
            "server with a replica"
        )
    if info.get("role", "master") != "master":
        return "is a replica, which takes no messages; give the URL of its primary"
    return None


def _persistence(info: Mapping[str, str], save: Any) -> str | None:
    if info.get("aof_enabled") == "1":
        return None
    snapshots = not isinstance(save, ResponseError) and bool(save) and bool(save[1])
    since = "since its last snapshot" if snapshots else "that it holds"
    return (
        f"keeps no append-only file: when it crashes, messages {since} are lost, although they "
        "were confirmed; set appendonly yes"
    )


def _eviction(info: Mapping[str, str]) -> str | None:
    policy = info.get("maxmemory_policy", "")
    if not policy.startswith("allkeys"):
        return None
    return (
        f"has maxmemory-policy {policy}: when its memory is full it deletes whole streams; set "
        "noeviction, or a volatile policy"
    )


def _names(streams: Streams, users: Sequence[Context]) -> list[str]:
    """Return the streams that these contexts write to or read from."""
    for user in users:
        streams.discover(user)
    read = [name for user in users for name in streams.known(user)]
    return list(dict.fromkeys([*(streams.name(user.label, 0) for user in users), *read]))


def _forbidden(link: Link, names: list[str]) -> Iterator[str]:
    """Try to trim; nothing has an id below 0, so that nothing is deleted."""
    for stream in names[:1]:
        (answer,) = link.ask(command("XTRIM", stream, "MINID", "0"))
        if isinstance(answer, ResponseError):
            yield (
                f"Redis at {link.place} lets nobody delete what was read ({answer}), so that its "
                "streams grow for ever; grant this user XINFO, XPENDING and XTRIM"
            )


def _behind(link: Link, names: list[str], most: timedelta) -> Iterator[str]:
    """Name the groups that have not read what is older than ``most``; they hold up trimming."""
    (clock,) = link.get(command("TIME"))
    limit = int(clock[0]) * 1000 - most // timedelta(milliseconds=1)
    for stream in names:
        (groups,) = link.ask(command("XINFO", "GROUPS", stream))
        for group in groups_of(groups):
            oldest = _oldest_unread(link, stream, group)
            if oldest is not None and oldest[0] < limit:
                yield (
                    f"The group {group.label!r} has not read what is in {stream} for more than "
                    f"{most} (MAX_AGE), and nothing is deleted until it has; let the context "
                    "receive again, or, if it was retired for good, delete its group: "
                    f"XGROUP DESTROY {stream} {group.label}"
                )


def _oldest_unread(link: Link, stream: str, group: Group) -> Id | None:
    """Return the first entry that a group has not acknowledged; None: it has read everything."""
    after = f"({shown_id(group.delivered)}"
    pending, unread = link.get(
        command("XPENDING", stream, group.label),
        command("XRANGE", stream, after, "+", "COUNT", 1),
    )
    return oldest_pending(pending) or (parse_id(unread[0][0]) if unread else None)
