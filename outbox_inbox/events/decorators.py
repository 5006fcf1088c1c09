"""The decorators that make consumers and upcasters of functions.

A type checker sees what a decorator demands of its function: `Marker` takes any function that can
be called with what the mark promises, and returns it with its own types. With more than six events
the function is not checked.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import (
    Any,
    Literal,
    Never,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    get_args,
    overload,
)

from . import DomainEvent, EventClass, IntegrationEvent, meta
from .envelope import Envelope
from .marks import (
    Function,
    HandlesMark,
    InboundMark,
    OldVersion,
    OnDead,
    OutboundMark,
    Transaction,
    Upcaster,
    UpcastsMark,
    boolean,
    fit_name,
    marker,
    one_of,
    positive,
    require_events,
)

Given = ParamSpec("Given")
Own = ParamSpec("Own")
Allowed_co = TypeVar("Allowed_co", covariant=True)
Allowed_contra = TypeVar("Allowed_contra", contravariant=True)
Returned_co = TypeVar("Returned_co", covariant=True)
Returned = TypeVar("Returned")
UpcasterT = TypeVar("UpcasterT", bound=Upcaster)

E1 = TypeVar("E1", bound=DomainEvent | IntegrationEvent)
E2 = TypeVar("E2", bound=DomainEvent | IntegrationEvent)
E3 = TypeVar("E3", bound=DomainEvent | IntegrationEvent)
E4 = TypeVar("E4", bound=DomainEvent | IntegrationEvent)
E5 = TypeVar("E5", bound=DomainEvent | IntegrationEvent)
E6 = TypeVar("E6", bound=DomainEvent | IntegrationEvent)
D1 = TypeVar("D1", bound=DomainEvent)
D2 = TypeVar("D2", bound=DomainEvent)
D3 = TypeVar("D3", bound=DomainEvent)
D4 = TypeVar("D4", bound=DomainEvent)
D5 = TypeVar("D5", bound=DomainEvent)
D6 = TypeVar("D6", bound=DomainEvent)
C1 = TypeVar("C1", bound=IntegrationEvent)
C2 = TypeVar("C2", bound=IntegrationEvent)
C3 = TypeVar("C3", bound=IntegrationEvent)
C4 = TypeVar("C4", bound=IntegrationEvent)
C5 = TypeVar("C5", bound=IntegrationEvent)
C6 = TypeVar("C6", bound=IntegrationEvent)

NONE: type[Never] = cast(type[Never], None)
"""In place of an event that is not given: to type checkers a class that adds nothing to a union."""


class Markable(Protocol[Given, Allowed_co, Own, Returned_co]):
    """A function that can be called as promised; `Own` and `Returned_co` are its own signature.

    The two overloads are two demands on one function. The first one checks the mark; the second
    one takes the signature down, so that the decorator returns the function with its own types.
    """

    @overload
    def __call__(self, *args: Given.args, **kwargs: Given.kwargs) -> Allowed_co: ...
    @overload
    def __call__(self, *args: Own.args, **kwargs: Own.kwargs) -> Returned_co: ...


class Marker(Protocol[Given, Allowed_contra]):
    """A decorator of functions that are called with `Given` and return what is allowed."""

    def __call__(
        self, function: Markable[Given, Allowed_contra, Own, Returned], /
    ) -> Callable[Own, Returned]:
        """Mark the function, and return it."""


Contracts: TypeAlias = IntegrationEvent | Sequence[IntegrationEvent] | None
DomainEvents: TypeAlias = DomainEvent | Sequence[DomainEvent] | None


class HandlerOptions(TypedDict, total=False):
    """The options of `handles` that do not change what its function takes."""

    transaction: Transaction
    on_dead: OnDead
    max_attempts: int | None
    name: str | None
    consumer: str | None


# One parameter a line would hide that these differ in their flags only.
# fmt: off
@overload
def handles(
    a: type[E1], b: type[E2] = NONE, c: type[E3] = NONE, d: type[E4] = NONE, e: type[E5] = NONE,
    f: type[E6] = NONE, /, *, many: Literal[False] = ..., takes_envelope: Literal[False] = ...,
    **options: Unpack[HandlerOptions],
) -> Marker[[E1 | E2 | E3 | E4 | E5 | E6], None]: ...
@overload
def handles(
    a: type[E1], b: type[E2] = NONE, c: type[E3] = NONE, d: type[E4] = NONE, e: type[E5] = NONE,
    f: type[E6] = NONE, /, *, many: Literal[False] = ..., takes_envelope: Literal[True],
    **options: Unpack[HandlerOptions],
) -> Marker[[E1 | E2 | E3 | E4 | E5 | E6, Envelope], None]: ...
@overload
def handles(
    a: type[E1], b: type[E2] = NONE, c: type[E3] = NONE, d: type[E4] = NONE, e: type[E5] = NONE,
    f: type[E6] = NONE, /, *, many: Literal[True], takes_envelope: Literal[False] = ...,
    **options: Unpack[HandlerOptions],
) -> Marker[[list[E1 | E2 | E3 | E4 | E5 | E6]], None]: ...
@overload
def handles(
    a: type[E1], b: type[E2] = NONE, c: type[E3] = NONE, d: type[E4] = NONE, e: type[E5] = NONE,
    f: type[E6] = NONE, /, *, many: Literal[True], takes_envelope: Literal[True],
    **options: Unpack[HandlerOptions],
) -> Marker[[list[E1 | E2 | E3 | E4 | E5 | E6], list[Envelope]], None]: ...
@overload
def handles(
    a: EventClass, b: EventClass, c: EventClass, d: EventClass, e: EventClass, f: EventClass,
    g: EventClass, /, *others: EventClass,
    many: bool = ..., takes_envelope: bool = ..., **options: Unpack[HandlerOptions],
) -> Callable[[Function], Function]: ...
# fmt: on
def handles(
    *events: type[Any],
    transaction: Transaction = "message",
    many: bool = False,
    takes_envelope: bool = False,
    on_dead: OnDead = "park",
    max_attempts: int | None = None,
    name: str | None = None,
    consumer: str | None = None,
) -> Any:
    """Mark a function as a handler: of domain events of its context, or of contracts.

    The handler runs inside a transaction of the context's database, together with the mark that
    its delivery is done; if it raises, both are rolled back and it is called again later. Effects
    outside that database can therefore happen more than once. A function marked for several
    events is one consumer of all of them, in one order for each key.

    Arguments:
        events: the classes of the events it takes, one or several.
        transaction: "message" (default) commits each message on its own; "batch" commits many
            together, for a handler whose effects are all in the context's database.
        many: the handler takes a list of events instead of one, all of one transaction. With
            ``consumer=`` each function gets a list of its own events, and is called again where a
            later message of a key would otherwise be handled before an earlier one.
        takes_envelope: it takes the `Envelope` as second argument (a list of them with many).
        on_dead: "park" (default) blocks the messages of the same key behind a dead one until an
            operator decides; "skip" goes on with them.
        max_attempts: failed attempts until a message is dead; default MAX_ATTEMPTS.
        name: the stable name stored with its deliveries; default
            ``<label>.<module>.<function>``. Keep it when you rename or move the function.
        consumer: functions of a context with one such name are one consumer, stored as
            ``<label>.<consumer>``: one delivery for each message, and one place in the order of
            each key. They are called in the order of definition, in one transaction, and must
            agree in the other options. Default: the function is a consumer of its own.

    Raises:
        TypeError, ValueError: at once, for an argument that does not fit.
    """
    if name is not None and consumer is not None:
        raise ValueError("name= and consumer= both name the consumer; give one of them")
    mark = HandlesMark(
        require_events("handles", events),
        one_of("transaction", transaction, get_args(Transaction)),
        boolean("many", many),
        boolean("takes_envelope", takes_envelope),
        one_of("on_dead", on_dead, get_args(OnDead)),
        None if max_attempts is None else positive("max_attempts", max_attempts),
        None if name is None else fit_name("name", name),
        _consumer(consumer),
    )
    return marker(mark)


def _consumer(name: str | None) -> str | None:
    return None if name is None else fit_name("consumer", name)


# fmt: off
@overload
def outbound(
    a: type[D1], b: type[D2] = NONE, c: type[D3] = NONE, d: type[D4] = NONE, e: type[D5] = NONE,
    f: type[D6] = NONE, /, *, consumer: str | None = ...,
) -> Marker[[D1 | D2 | D3 | D4 | D5 | D6], Contracts]: ...
@overload
def outbound(
    a: type[DomainEvent], b: type[DomainEvent], c: type[DomainEvent],
    d: type[DomainEvent], e: type[DomainEvent], f: type[DomainEvent],
    g: type[DomainEvent], /, *others: type[DomainEvent], consumer: str | None = ...,
) -> Callable[[Function], Function]: ...
# fmt: on
def outbound(*events: type[Any], consumer: str | None = None) -> Any:
    """Mark a function as an outbound translator: own domain events -> contracts.

    It is a pure function that takes the event and returns one contract, a list or tuple of them,
    or None; the result is recorded in the transaction of its delivery. It may be called again
    for the same event, whenever that transaction is rolled back.

    All outbound translators of a context are one consumer, ``<label>.outbound``: they are called
    in the order of definition, and what they make leaves in the order of the events.

    Arguments:
        events: the classes of the domain events it takes, one or several.
        consumer: sets it apart, with others of the same name, as the consumer
            ``<label>.<consumer>``, whose order does not depend on the other translators.

    Raises:
        TypeError, ValueError: at once, for an argument that does not fit.
    """
    return marker(OutboundMark(require_events("outbound", events, "domain"), _consumer(consumer)))


# fmt: off
@overload
def inbound(
    a: type[C1], b: type[C2] = NONE, c: type[C3] = NONE, d: type[C4] = NONE, e: type[C5] = NONE,
    f: type[C6] = NONE, /, *, consumer: str | None = ...,
) -> Marker[[C1 | C2 | C3 | C4 | C5 | C6], DomainEvents]: ...
@overload
def inbound(
    a: type[IntegrationEvent], b: type[IntegrationEvent], c: type[IntegrationEvent],
    d: type[IntegrationEvent], e: type[IntegrationEvent], f: type[IntegrationEvent],
    g: type[IntegrationEvent], /, *others: type[IntegrationEvent], consumer: str | None = ...,
) -> Callable[[Function], Function]: ...
# fmt: on
def inbound(*events: type[Any], consumer: str | None = None) -> Any:
    """Mark a function as an inbound translator: foreign contracts -> own domain events.

    It is a pure function that takes the contract and returns one domain event, a list or tuple
    of them, or None; the result is put into the own inbox in the transaction of its delivery. It
    may be called again for the same contract, whenever that transaction is rolled back.

    All inbound translators of a context are one consumer, ``<label>.inbound``, as the outbound
    ones are.

    Arguments:
        events: the classes of the contracts it takes, one or several.
        consumer: sets it apart, as that of `outbound`.

    Raises:
        TypeError, ValueError: at once, for an argument that does not fit.
    """
    return marker(
        InboundMark(require_events("inbound", events, "integration"), _consumer(consumer))
    )


def upcasts(event: type[Any], *, from_version: int) -> Callable[[UpcasterT], UpcasterT]:
    """Mark a function ``dict -> dict`` that turns data of one version into the next version's.

    Upcasters are chained, so each one knows two neighbouring versions only.

    Arguments:
        event: the class whose old messages it reads; or a process, for the state it stored.
        from_version: the version it takes, from 1 up to the class's own version, exclusive.

    Raises:
        TypeError, ValueError: at once, for an argument that does not fit.
    """
    if not (inspect.isclass(event) and "__outbox_inbox_meta__" in vars(event)):
        require_events("upcasts", (event,))
    current = meta(event).version
    if positive("from_version", from_version) >= current:
        raise ValueError(
            f"from_version={from_version} of {event.__qualname__} has nothing to upcast to: "
            f"the class is version {current}"
        )
    return marker(UpcastsMark((OldVersion(event, from_version),)))
