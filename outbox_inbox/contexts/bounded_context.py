"""A bounded context as it is deployed."""

from collections.abc import Mapping
from dataclasses import dataclass

from outbox_inbox.conf import Source
from outbox_inbox.conf.keys import Signing, Verifying
from outbox_inbox.events import DomainEvent, EventClass, IntegrationEvent, meta

from .consumers import NO_UPCASTERS, Consumer, Upcasters
from .declaring import by_stored_name, own_events
from .read_models import ReadModel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Context:
    """A bounded context as it is deployed: its ContextConfig with the overrides of the settings.

    Fields:
        label: the app's label; the source of its messages.
        app: the app's name, which is its package.
        database: alias of the database of its queues.
        transport: alias in OUTBOX_INBOX["TRANSPORTS"].
        source: "outbox" or "stream", as declared; `queues.layouts` says what is in force.
        publishes, subscribes: contracts, as declared.
        consumers: by name, in the order of ``modules`` and of definition.
        all_consumers: the same, with those that have the name of another (check E011).
        read_models: by name, the read models that projections keep.
        all_read_models: the same, with those that have the name of another (check E011).
        events: stored type name -> class, of its own events and of what it declares or consumes.
        subscribed: stored type names of ``subscribes``.
        sources: labels of the contexts that publish these: the first part of their names.
        signing: the key that its messages are signed with; None: they are not signed.
        verifying: by the label of a source, how its messages are verified.
    """

    label: str
    app: str
    database: str
    transport: str
    source: Source
    publishes: tuple[type[IntegrationEvent], ...]
    subscribes: tuple[type[IntegrationEvent], ...]
    consumers: Mapping[str, Consumer]
    all_consumers: tuple[Consumer, ...]
    read_models: Mapping[str, ReadModel]
    all_read_models: tuple[ReadModel, ...]
    events: Mapping[str, EventClass]
    subscribed: frozenset[str]
    sources: frozenset[str]
    signing: Signing | None
    verifying: Mapping[str, Verifying]
    _by_type: Mapping[str, tuple[Consumer, ...]]
    _upcasters: Mapping[EventClass, Upcasters]

    def __repr__(self) -> str:
        return f"<Context {self.label}>"

    def consumers_of(self, type_name: str) -> tuple[Consumer, ...]:
        """Return the consumers of messages with this stored type name."""
        return self._by_type.get(type_name, ())

    def type_name(self, event: EventClass) -> str:
        """Return the name under which messages of this class are stored: ``<label>.<ClassName>``.

        An event declared with ``name=``, as every contract is, has that name instead.
        """
        return meta(event).name or f"{self.label}.{event.__name__}"

    def publishes_class(self, event: EventClass) -> bool:
        """Return whether this very class is in ``publishes``; another version of it is another."""
        return event in self.publishes

    def upcasters_of(self, event: EventClass) -> Upcasters:
        """Return the upcasters of a class, by the version they take."""
        return self._upcasters.get(event, NO_UPCASTERS)

    def own_events(self) -> list[type[DomainEvent]]:
        """Return the domain events of this context that have been imported so far."""
        return own_events(self.label)

    def event_class(self, type_name: str) -> EventClass | None:
        """Return the class of a stored type name, also of one imported since, or None."""
        return self.events.get(type_name) or by_stored_name(own_events(self.label)).get(type_name)
