"""Process managers: what waits for several events, and for their absence, and then acts.

A process is a class. Its fields are what it remembers of one instance (one order, one customer);
its marked methods are what it does. Like a handler it gets events by deliveries of the inbox, so
retries, dead letters and correlation ids are those of a handler.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar, cast, dataclass_transform

from django.utils import timezone

from .events import DomainEvent, IntegrationEvent, Meta, escaped, meta
from .exceptions import InvalidEvent

Method = TypeVar("Method", bound=Callable[..., Any])
Event = type[DomainEvent] | type[IntegrationEvent]
By = str | tuple[str, ...] | list[str] | Callable[[Any], str | None]
Missing = Literal["keep", "ignore"]
Transaction = Literal["message", "batch"]

ATTRIBUTE = "__outbox_inbox_steps__"
_WAITS = "__outbox_inbox_waits__"
MAX_PROCESS_NAME = 180
"""Characters: the name of its time-outs, ``<name>.TimedOut``, has to fit beside events' names."""
_LENGTHS = range(1, MAX_PROCESS_NAME + 1)
_VERSIONS = range(1, 32_768)


class TimedOut(DomainEvent, key="key"):
    """A time-out of a process has come; delivered to this process only.

    Its message id says which one it is: one that was cancelled or set anew since is not pending.
    """

    key: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class StepMark:
    """A method that takes an event; the arguments of `starts` or `continues`."""

    event: Event
    by: By
    starts: bool
    missing: Missing = "keep"


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """What a process does with the events of one class.

    Fields:
        event: the class.
        by: which instance they are for.
        starts: the name of the method that starts an instance, or None.
        continues: the name of the method that goes on with one, or None.
        missing: what happens while there is no instance: "keep" or "ignore".
    """

    event: Event
    by: By
    starts: str | None = None
    continues: str | None = None
    missing: Missing = "keep"

    def instance(self, event: Any) -> str | None:
        """Return the key of the instance that an event is for; None: for none.

        Raises:
            InvalidEvent: a function of the user's returned neither.
        """
        if callable(self.by):
            found = self.by(event)
        else:
            values = [getattr(event, name) for name in _names(self.by)]
            texts = [str(getattr(value, "value", value)) for value in values]
            found = (
                None
                if None in values
                else "/".join(texts if len(texts) == 1 else map(escaped, texts))
            )
        given: object = found
        if given is not None and not (isinstance(given, str) and 0 < len(given) <= 200):
            raise InvalidEvent(
                type(event).__name__,
                [f"by= gives {found!r} for it; the key of a process has 1 to 200 characters"],
            )
        return found


@dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field,))
class Process:
    """Base of process managers: subclass it in the ``processes`` module of a context.

    The subclass becomes a keyword-only dataclass. Its fields are the state, of the types that an
    event may have, each with a default; they are stored as JSON after every step, and an older
    ``version`` goes through ``@upcasts``. Everything a step does is one transaction: the fields,
    what it records, the time-outs it sets and cancels, and the mark that its delivery is done.

    Class arguments, all optional:
        name: the stable name stored with its instances and deliveries; default
            ``<label>.<module>.<Class>``. Keep it when you rename or move the class.
        version: of the state, from 1; raised when the fields change.
        transaction: "message" (default) commits each step on its own; "batch" commits many
            together, which is faster. For processes whose events have the key of their instance
            only: of others, two batches could wait for each other's rows.

    Raises:
        TypeError, ValueError: in the class statement itself; also for a field or method that has
            the name of something that every process has, such as ``cancel`` or ``key``.
    """

    __outbox_inbox_meta__: ClassVar[Meta]
    process_name: ClassVar[str | None] = None
    transaction: ClassVar[Transaction] = "message"
    routes: ClassVar[Mapping[Event, Route]] = MappingProxyType({})
    time_outs: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init_subclass__(
        cls, *, name: Any = None, version: Any = 1, transaction: Any = "message", **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        if name is not None and not (isinstance(name, str) and len(name) in _LENGTHS):
            raise ValueError(f"{cls.__qualname__}: name={name!r}; expected 1 to "
                             f"{MAX_PROCESS_NAME} characters")  # fmt: skip
        if version not in _VERSIONS or isinstance(version, bool):
            raise ValueError(f"{cls.__qualname__}: version is 1 to 32767, not {version!r}")
        if transaction not in ("message", "batch"):
            raise ValueError(
                f"{cls.__qualname__}: transaction={transaction!r}; expected 'message' or 'batch'"
            )
        _refuse_taken(cls)
        dataclasses.dataclass(kw_only=True, eq=False)(cls)
        _require_defaults(cls)
        cls.__outbox_inbox_meta__ = Meta("domain", None, version, ())
        cls.process_name, cls.transaction = name, transaction
        cls.routes = MappingProxyType(_routes(cls))
        cls.time_outs = MappingProxyType(_time_outs(cls))

    @property
    def key(self) -> str:
        """The key of this instance: what ``by=`` gave."""
        return self._step.key

    @property
    def _step(self) -> "ProcessStep":
        found: ProcessStep | None = vars(self).get("__step__")
        if found is None:
            raise RuntimeError(f"{type(self).__name__} is in no step: only its marked methods can "
                               "do that, and only while an event is handled")  # fmt: skip
        return found

    @property
    def _asked(self) -> "ProcessStep":
        if self._step.over:
            raise RuntimeError(f"{type(self).__name__}: its step is over, and is stored already; "
                               "ask within the marked method")  # fmt: skip
        return self._step

    def time_out(self, name: str, *, at: datetime) -> None:
        """Set a time-out: the method marked ``@times_out(name)`` is called at this time.

        Set again under the same name it replaces the one before. Its time has come by the clock
        of the database; one in the past comes at once.

        Arguments:
            name: of a method marked with `times_out`.
            at: an aware datetime.

        Raises:
            ValueError: no method is marked for this name, or ``at`` is no aware datetime.
            RuntimeError: no step is being taken, or it is over.
        """
        _require_known(type(self), name)
        when: object = at
        if not isinstance(when, datetime) or timezone.is_naive(when):
            raise ValueError(f"at={at!r}; expected an aware datetime")
        self._asked.wanted[name] = at

    def cancel(self, name: str) -> None:
        """Cancel a time-out; nothing happens when it is not set.

        Raises:
            ValueError: no method is marked for this name.
            RuntimeError: no step is being taken, or it is over.
        """
        _require_known(type(self), name)
        self._asked.wanted[name] = None

    def finish(self) -> None:
        """End this instance after this step: its time-outs are cancelled, later events ignored.

        Raises:
            RuntimeError: no step is being taken, or it is over.
        """
        self._asked.finished = True


@dataclasses.dataclass(slots=True)
class ProcessStep:
    """What a process asked for in one step, beside what it recorded.

    Fields:
        key: of the instance.
        wanted: name of a time-out -> when, or None to cancel it.
        finished: it is the last step.
        over: its method has returned; what is asked for now, in an on_commit hook for example,
            would be lost.
    """

    key: str
    wanted: dict[str, datetime | None] = dataclasses.field(default_factory=dict)
    finished: bool = False
    over: bool = False


def begin(process: Process, key: str) -> ProcessStep:
    """Let a process take a step; return what it will ask for."""
    step = ProcessStep(key)
    vars(process)["__step__"] = step
    return step


def starts(event: Event, *, by: By) -> Callable[[Method], Method]:
    """Mark a method of a process: an event of this class starts an instance.

    For an instance that has been started already the event is ignored, unless the method (or
    another) is marked with `continues` for it as well.

    Arguments:
        event: a domain event of the context, or a contract that it subscribes to.
        by: which instance: the name of a field, several, or a function of the event that returns
            text. None as a value means: no instance, and the event is ignored.

    Raises:
        TypeError, ValueError: at once, for an argument that does not fit.
    """
    return _stepping("starts", StepMark(_event("starts", event), _by("starts", event, by), True))


def continues(event: Event, *, by: By, missing: Missing = "keep") -> Callable[[Method], Method]:
    """Mark a method of a process: an event of this class goes on with an instance.

    For a finished instance the event is ignored.

    Arguments:
        event, by: as for `starts`.
        missing: what happens while there is no such instance. "keep" (default) keeps the event
            until it is started, and handles it right after that, in the order of arrival:
            events of several keys or contexts overtake each other. "ignore" forgets it.

    Raises:
        TypeError, ValueError: at once, for an argument that does not fit.
    """
    if missing not in ("keep", "ignore"):
        raise ValueError(f"missing={missing!r}; expected 'keep' or 'ignore'")
    known = _event("continues", event)
    return _stepping("continues", StepMark(known, _by("continues", event, by), False, missing))


def times_out(name: str) -> Callable[[Method], Method]:
    """Mark a method of a process: it is called when its time-out of this name has come.

    Raises:
        TypeError, ValueError: at once, for an argument that does not fit.
    """
    given: object = name
    if not isinstance(given, str) or not 0 < len(given) <= 100:
        raise ValueError(f"times_out({name!r}): expected a name of 1 to 100 characters")

    def mark(method: Method) -> Method:
        _require_method("times_out", method)
        if hasattr(method, _WAITS):
            raise ValueError(f"{method.__qualname__} is marked for two time-outs")
        setattr(method, _WAITS, name)
        return method

    return mark


def _stepping(decorator: str, step: StepMark) -> Callable[[Method], Method]:
    def mark(method: Method) -> Method:
        _require_method(decorator, method)
        setattr(method, ATTRIBUTE, (*getattr(method, ATTRIBUTE, ()), step))
        return method

    return mark


def _event(decorator: str, event: Any) -> Event:
    known = isinstance(event, type) and issubclass(event, DomainEvent | IntegrationEvent)
    if not known or event in (DomainEvent, IntegrationEvent):
        raise TypeError(f"@{decorator} takes the class of an event, not {event!r}")
    return cast(Event, event)


def _by(decorator: str, event: Event, by: Any) -> By:
    if callable(by):
        return by  # type: ignore[no-any-return]
    names = _names(by) if isinstance(by, str | tuple | list) else ()
    fields = [field.name for field in dataclasses.fields(event)]
    unknown = [name for name in names if name not in fields]
    if unknown or not names:
        what = repr(unknown[0]) if unknown else repr(by)
        raise ValueError(
            f"@{decorator}({event.__qualname__}, by=...): {what} is not a field of it; "
            f"fields: {', '.join(fields)}"
        )
    return names


def _names(by: Any) -> tuple[str, ...]:
    return (by,) if isinstance(by, str) else tuple(by)


def _require_method(decorator: str, method: Any) -> None:
    if not inspect.isfunction(method) or inspect.iscoroutinefunction(method):
        raise TypeError(f"@{decorator} marks a plain method of a process, not {method!r}")
    if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
        raise TypeError(f"{method.__qualname__} is a generator, which would not run")


def _refuse_taken(cls: type[Process]) -> None:
    """Refuse what would take the place of `Process.cancel` and the like, without a word."""
    theirs = [base for base in cls.__mro__ if base is cls or not issubclass(base, Process)]
    ours = {*vars(Process), *inspect.get_annotations(Process)}
    for base in theirs:
        for name in (*vars(base), *inspect.get_annotations(base)):
            if name in ours and not name.startswith("__"):
                raise TypeError(
                    f"{cls.__qualname__}.{name} hides what every process has under this name; "
                    "choose another one"
                )


def _require_defaults(cls: type[Process]) -> None:
    for field in dataclasses.fields(cast(Any, cls)):
        missing = dataclasses.MISSING
        if field.default is missing and field.default_factory is missing:
            raise TypeError(
                f"{cls.__qualname__}.{field.name} needs a default: an instance begins without it"
            )


def _require_known(cls: type[Process], name: str) -> None:
    if name not in cls.time_outs:
        known = ", ".join(map(repr, cls.time_outs)) or "none"
        raise ValueError(
            f"{cls.__name__} has no method marked @times_out({name!r}); it has {known}"
        )


def _routes(cls: type[Process]) -> dict[Event, Route]:
    found: dict[Event, Route] = {}
    for name, mark in _marks(cls):
        route = found.get(mark.event, Route(mark.event, mark.by))
        if route.by != mark.by:
            raise ValueError(f"{cls.__qualname__} has two by= for {mark.event.__qualname__}")
        verb = "starts" if mark.starts else "continues"
        if getattr(route, verb) is not None:
            raise ValueError(
                f"{cls.__qualname__} has two methods marked @{verb}({mark.event.__qualname__})"
            )
        missing = route.missing if mark.starts else mark.missing
        changes: dict[str, Any] = {verb: name, "missing": missing}
        found[mark.event] = dataclasses.replace(route, **changes)
    return found


def _marks(cls: type[Process]) -> list[tuple[str, StepMark]]:
    return [
        (name, mark)
        for name in _methods(cls)
        for mark in getattr(getattr(cls, name), ATTRIBUTE, ())
    ]


def _methods(cls: type[Process]) -> list[str]:
    """Return the names of all methods, those of base classes first."""
    names = [name for base in reversed(cls.__mro__) for name in vars(base)]
    return [name for name in dict.fromkeys(names) if inspect.isfunction(getattr(cls, name, None))]


def _time_outs(cls: type[Process]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _methods(cls):
        waits = getattr(getattr(cls, name), _WAITS, None)
        if waits is not None and found.setdefault(waits, name) != name:
            raise ValueError(f"{cls.__qualname__} has two methods marked @times_out({waits!r})")
    return found


def version_of(cls: type[Process]) -> int:
    """Return the version of a process's state."""
    return meta(cls).version
