"""Process managers: they wait for several events, and for missing ones, and then act.

A process is a class. Its fields are what it remembers of one instance (one order, one customer);
its marked methods are what it does. Like a handler it gets events by deliveries of the inbox, so
retries, dead letters and correlation ids are those of a handler.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, Literal, cast, dataclass_transform, get_args

from outbox_inbox.conf.times import time_problem

from .conf.section import suggestion
from .events import DomainEvent, EventClass, Meta, checked_version, key_from
from .events.marks import Function, Transaction, one_of, require_events, require_function
from .exceptions import InvalidEvent

By = str | tuple[str, ...] | list[str] | Callable[[Any], str | None]
Missing = Literal["keep", "ignore"]

STEPS = "__outbox_inbox_steps__"
TIME_OUT = "__outbox_inbox_time_out__"
MAX_PROCESS_NAME = 180
"""Characters: the name of its time-outs, ``<name>.TimedOut``, has to fit beside events' names."""


class TimedOut(DomainEvent, key="key"):
    """A time-out of a process is due; delivered to this process only.

    The instance remembers the message id of each pending time-out, so one that was cancelled or
    set again is ignored when it comes.
    """

    key: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """What a process does with the events of one class.

    Fields:
        event: the class.
        by: which instance they are for.
        starts: the name of the method that starts an instance, or None.
        continues: the name of the method that continues one, or None.
        missing: what happens while the instance is not started: "keep" or "ignore".
    """

    event: EventClass
    by: By
    starts: str | None = None
    continues: str | None = None
    missing: Missing = "keep"

    def instance(self, event: Any) -> str | None:
        """Return the key of the instance that an event is for; None: the event is ignored.

        Raises:
            InvalidEvent: a function given as ``by=`` returned neither text that fits nor None.
        """
        names = (self.by,) if isinstance(self.by, str) else self.by
        found: object = names(event) if callable(names) else key_from(event, names)
        if found is None or (isinstance(found, str) and 0 < len(found) <= 200):
            return found
        raise InvalidEvent(
            type(event).__name__,
            [f"by= gives {found!r} for it; the key of a process has 1 to 200 characters"],
        )


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
            together, which is faster. Use it only where events have the key of their instance:
            otherwise two batches could deadlock on each other's rows.

    Raises:
        TypeError, ValueError: in the class statement itself; also for a field or method that has
            the name of something that every process has, such as ``cancel`` or ``key``.
    """

    __outbox_inbox_meta__: ClassVar[Meta]
    process_name: ClassVar[str | None] = None
    transaction: ClassVar[Transaction] = "message"
    routes: ClassVar[Mapping[EventClass, Route]] = MappingProxyType({})
    time_outs: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init_subclass__(
        cls, *, name: Any = None, version: Any = 1, transaction: Any = "message", **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        if not (name is None or (isinstance(name, str) and 0 < len(name) <= MAX_PROCESS_NAME)):
            raise ValueError(
                f"{cls.__qualname__}: name={name!r}; expected 1 to {MAX_PROCESS_NAME} characters"
            )
        _require_free_names(cls)
        dataclasses.dataclass(kw_only=True, eq=False)(cls)
        for field in dataclasses.fields(cast(Any, cls)):
            if field.default is field.default_factory is dataclasses.MISSING:
                raise TypeError(
                    f"{cls.__qualname__}.{field.name} needs a default: an instance begins without it"
                )
        cls.process_name = name
        cls.transaction = one_of("transaction", transaction, get_args(Transaction))
        cls.__outbox_inbox_meta__ = Meta("domain", None, checked_version(cls, version), ())
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
            raise RuntimeError(
                f"{type(self).__name__} is not in a step: only its marked methods can do this, "
                "and only while an event is handled"
            )
        return found

    @property
    def _open_step(self) -> "ProcessStep":
        # What is asked for after the method has returned would be lost: the step is stored already.
        if self._step.over:
            raise RuntimeError(
                f"{type(self).__name__}: its step is over and stored already; ask within the "
                "marked method"
            )
        return self._step

    def time_out(self, name: str, *, at: datetime) -> None:
        """Set a time-out: the method marked ``@times_out(name)`` is called at this time.

        Setting it again under the same name replaces it. The clock of the database decides when
        it is due; one in the past is due at once.

        Arguments:
            name: of a method marked with `times_out`.
            at: an aware datetime with a year from 2 to 9998.

        Raises:
            ValueError: no method is marked for this name, or ``at`` is not such a datetime.
            RuntimeError: the process is not in a step, or the step is over.
        """
        if problem := time_problem(at):
            raise ValueError(f"at={at!r}; {problem}")
        self._set_time_out(name, at)

    def cancel(self, name: str) -> None:
        """Cancel a time-out; nothing happens when it is not set.

        Raises:
            ValueError: no method is marked for this name.
            RuntimeError: the process is not in a step, or the step is over.
        """
        self._set_time_out(name, None)

    def _set_time_out(self, name: str, at: datetime | None) -> None:
        if name not in self.time_outs:
            raise ValueError(
                f"{type(self).__name__} has no method marked @times_out({name!r})"
                f"{suggestion(name, self.time_outs)}"
            )
        self._open_step.wanted[name] = at

    def finish(self) -> None:
        """End this instance after this step: its time-outs are cancelled, later events ignored.

        Raises:
            RuntimeError: the process is not in a step, or the step is over.
        """
        self._open_step.finished = True


@dataclasses.dataclass(slots=True)
class ProcessStep:
    """What a process asked for in one step, beside what it recorded.

    Fields:
        key: of the instance.
        wanted: name of a time-out -> when, or None to cancel it.
        finished: it is the last step.
        over: its method has returned, so what is asked for now (in an on_commit hook, for
            example) would be lost.
    """

    key: str
    wanted: dict[str, datetime | None] = dataclasses.field(default_factory=dict)
    finished: bool = False
    over: bool = False


def begin_step(process: Process, key: str) -> ProcessStep:
    """Begin a step of a process; return what it will ask for."""
    step = ProcessStep(key)
    vars(process)["__step__"] = step
    return step


def starts(event: EventClass, *, by: By) -> Callable[[Function], Function]:
    """Mark a method of a process: an event of this class starts an instance.

    For an instance that is started already the event is ignored, unless the method (or another)
    is marked with `continues` for it as well.

    Arguments:
        event: a domain event of the context, or a contract that it subscribes to.
        by: which instance: the name of a field, several, or a function of the event that returns
            text. The event is ignored where the value is None.

    Raises:
        TypeError, ValueError: at once, for an argument that does not fit.
    """
    return _step_marker("starts", event, by)


def continues(
    event: EventClass, *, by: By, missing: Missing = "keep"
) -> Callable[[Function], Function]:
    """Mark a method of a process: an event of this class continues an instance.

    For a finished instance the event is ignored.

    Arguments:
        event, by: as for `starts`.
        missing: what happens while the instance is not started. "keep" (default) stores the event
            with the instance and handles it right after the start, in the order of arrival:
            events of several keys or contexts can overtake each other. "ignore" drops it.

    Raises:
        TypeError, ValueError: at once, for an argument that does not fit.
    """
    return _step_marker("continues", event, by, one_of("missing", missing, get_args(Missing)))


def times_out(name: str) -> Callable[[Function], Function]:
    """Mark a method of a process: it is called when its time-out of this name is due.

    Raises:
        TypeError, ValueError: at once, for an argument that does not fit.
    """
    given: object = name
    if not isinstance(given, str) or not 0 < len(given) <= 100:
        raise ValueError(f"times_out({name!r}): expected a name of 1 to 100 characters")

    def set_mark(method: Function) -> Function:
        require_function("times_out", method)
        if hasattr(method, TIME_OUT):
            raise ValueError(f"{method.__qualname__} is marked for two time-outs")
        setattr(method, TIME_OUT, name)
        return method

    return set_mark


def _step_marker(
    decorator: str, event: EventClass, by: By, missing: Missing = "keep"
) -> Callable[[Function], Function]:
    require_events(decorator, (event,))
    names = by if callable(by) else _fields(decorator, event, by)

    def set_mark(method: Function) -> Function:
        require_function(decorator, method)
        mark = Route(event, names, missing=missing)
        setattr(method, STEPS, (*getattr(method, STEPS, ()), (decorator, mark)))
        return method

    return set_mark


def _fields(decorator: str, event: EventClass, by: object) -> tuple[str, ...]:
    names: Any = (by,) if isinstance(by, str) else by
    fields = [field.name for field in dataclasses.fields(event)]
    given = isinstance(names, tuple | list) and len(names) > 0
    unknown = [each for each in names if each not in fields] if given else [by]
    if unknown:
        raise ValueError(
            f"@{decorator}({event.__qualname__}, by=...): {unknown[0]!r} is not a field of it; "
            f"fields: {', '.join(fields)}"
        )
    return tuple(names)


def _require_free_names(cls: type[Process]) -> None:
    """Refuse a field or method that would silently replace `Process.cancel` and the like."""
    theirs = [base for base in cls.__mro__ if base is cls or not issubclass(base, Process)]
    ours = {*vars(Process), *inspect.get_annotations(Process)}
    for base in theirs:
        for name in (*vars(base), *inspect.get_annotations(base)):
            if name in ours and not name.startswith("__"):
                raise TypeError(
                    f"{cls.__qualname__}.{name} hides what every process has under this name; "
                    "choose another one"
                )


def _methods(cls: type[Process]) -> dict[str, Any]:
    """Return all methods by their names, those of base classes first."""
    names = [name for base in reversed(cls.__mro__) for name in vars(base)]
    found = {name: getattr(cls, name, None) for name in names}
    return {name: method for name, method in found.items() if inspect.isfunction(method)}


def _routes(cls: type[Process]) -> dict[EventClass, Route]:
    found: dict[EventClass, Route] = {}
    for name, method in _methods(cls).items():
        for decorator, mark in getattr(method, STEPS, ()):
            route = found.setdefault(mark.event, mark)
            if route.by != mark.by:
                raise ValueError(f"{cls.__qualname__} has two by= for {mark.event.__qualname__}")
            if getattr(route, decorator) is not None:
                raise ValueError(
                    f"{cls.__qualname__} has two methods marked "
                    f"@{decorator}({mark.event.__qualname__})"
                )
            missing = mark.missing if decorator == "continues" else route.missing
            changes: dict[str, Any] = {decorator: name, "missing": missing}
            found[mark.event] = dataclasses.replace(route, **changes)
    return found


def _time_outs(cls: type[Process]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, method in _methods(cls).items():
        time_out = getattr(method, TIME_OUT, None)
        if time_out is not None and found.setdefault(time_out, name) != name:
            raise ValueError(f"{cls.__qualname__} has two methods marked @times_out({time_out!r})")
    return found
