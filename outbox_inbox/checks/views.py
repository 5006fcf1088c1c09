"""Check of a subscriber's own view of a contract against the class that the publisher records."""

from collections.abc import Iterator

from django.core.checks import CheckMessage

from outbox_inbox.contexts import Context, contexts
from outbox_inbox.contexts.consumers import path_of
from outbox_inbox.events import EventClass, codec, meta

from .contracts import declared_contracts
from .messages import error


def check_views(context: Context) -> Iterator[CheckMessage]:
    """E007: what another context of this project publishes cannot be read as the view of it."""
    for view in declared_contracts(context):
        if view in context.publishes:
            continue
        for published in _newest(context.type_name(view), context):
            problems = [] if published is view else list(_problems(published, view))
            if problems:
                yield error(
                    "E007",
                    f"{path_of(view)} does not fit the contract {path_of(published)}: "
                    f"{'; '.join(problems)}.",
                    "Change the view: it has the version and key of the contract, and of its fields "
                    "those that are needed, with types that read what is published. Or import the "
                    "class of the publisher.",
                )


def _newest(name: str, context: Context) -> Iterator[EventClass]:
    """Yield the newest class that each other context publishes by this name."""
    for other in contexts():
        found = [each for each in other.publishes if other.type_name(each) == name]
        if found and other is not context:
            yield max(found, key=lambda each: meta(each).version)


def _problems(published: EventClass, view: EventClass) -> Iterator[str]:
    theirs, ours = meta(published), meta(view)
    if ours.version < theirs.version:
        yield f"version {theirs.version} is published, and version {ours.version} cannot read it"
    if ours.key and ours.key != theirs.key:
        yield f"its key is {_key(ours.key)}, and that of the contract {_key(theirs.key)}"
    # A newer version reads the older one through upcasters, which may change any field (E009).
    if ours.version == theirs.version and not _unfit(published, view):
        yield from codec.view_problems(published, view)


def _key(names: tuple[str, ...]) -> str:
    return " and ".join(names) or "none"


def _unfit(*classes: EventClass) -> bool:
    """Return whether a class is unfit to be stored, which E015 reports."""
    return any(codec.field_problems(each) for each in classes)
