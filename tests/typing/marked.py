"""Right and wrong uses of the decorators, for type checkers; nothing imports this file.

A line with an error ends with ``# E: <code of mypy> / <rule of pyright>``. `test_marked.py`
compares these comments with what the two report.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from outbox_inbox import (
    DomainEvent,
    Envelope,
    IntegrationEvent,
    handles,
    inbound,
    outbound,
    upcasts,
)
from outbox_inbox.projections import projects


class Placed(DomainEvent, version=2):
    order: str


class Cancelled(DomainEvent):
    order: str


class Shipped(DomainEvent): ...


class Paid(DomainEvent): ...


class Packed(DomainEvent): ...


class Returned(DomainEvent): ...


class Lost(DomainEvent): ...


class OrderPlaced(IntegrationEvent, name="ordering.order_placed"):
    order: str


class OrderCancelled(IntegrationEvent, name="ordering.order_cancelled"): ...


# ------------------------------------------------------------------------------ right: handlers


@handles(Placed)
def one(event: Placed) -> None: ...


@handles(Placed, OrderPlaced)
def several(event: Placed | OrderPlaced) -> None: ...


@handles(Placed, Cancelled, Shipped, Paid, Packed, Returned, transaction="batch")
def six(event: Placed | Cancelled | Shipped | Paid | Packed | Returned) -> None: ...


@handles(Placed, Cancelled, Shipped, Paid, Packed, Returned, Lost)
def seven(event: DomainEvent) -> None: ...


@handles(Placed, Cancelled)
def of_the_base_class(event: DomainEvent) -> None: ...


@handles(Placed, OrderPlaced)
def of_anything(event: Any) -> None: ...


@handles(Placed)
@handles(Cancelled, Shipped)
def stacked(event: Placed | Cancelled | Shipped) -> None: ...


@handles(Placed, many=True)
def listed(events: list[Placed]) -> None: ...


@handles(Placed, Cancelled, many=True)
def listed_together(events: list[Placed | Cancelled]) -> None: ...


@handles(Placed, many=True)
@handles(Cancelled, many=True)
def listed_and_stacked(events: Sequence[Placed | Cancelled]) -> None: ...


@handles(Placed, takes_envelope=True)
def with_envelope(event: Placed, envelope: Envelope) -> None: ...


@handles(Placed, Cancelled, many=True, takes_envelope=True, max_attempts=3)
def with_envelopes(events: list[Placed | Cancelled], envelopes: list[Envelope]) -> None: ...


@handles(Placed)
def with_option(event: Placed, again: bool = False) -> None: ...


@handles(Placed, Cancelled, consumer="shipments")
def grouped(event: Placed | Cancelled) -> None: ...


@handles(Shipped, many=True, takes_envelope=True, consumer="board")
def grouped_lists(events: list[Shipped], envelopes: list[Envelope]) -> None: ...


@handles(Placed, Cancelled, Shipped, Paid, Packed, Returned, Lost, consumer="shipments")
def seven_grouped(event: DomainEvent) -> None: ...


# The function keeps its own types, and the names of its arguments.
one(event=Placed(order="1"))
stacked(event=Shipped())
with_option(Placed(order="1"), again=True)


# --------------------------------------------------------- right: translators and the others


@outbound(Placed)
def published(event: Placed) -> OrderPlaced | None: ...


@outbound(Placed, Cancelled)
def published_together(event: Placed | Cancelled) -> list[OrderPlaced | OrderCancelled]: ...


@outbound(Placed)
@outbound(Cancelled)
def published_as_tuple(event: Placed | Cancelled) -> tuple[OrderPlaced, OrderCancelled]: ...


@outbound(Placed, consumer="statistics")
def published_apart(event: Placed) -> OrderPlaced: ...


@outbound(Placed, Cancelled, Shipped, Paid, Packed, Returned, Lost, consumer="statistics")
def seven_published_apart(event: DomainEvent) -> OrderPlaced: ...


@inbound(OrderPlaced, consumer="statistics")
def understood_apart(event: OrderPlaced) -> Placed: ...


@inbound(OrderPlaced, OrderCancelled)
def understood(event: OrderPlaced | OrderCancelled) -> Placed | Cancelled | None: ...


@projects(Placed, Cancelled, into="board", many=True)
def projected(events: list[Placed | Cancelled]) -> None: ...


@projects(Placed, into="board", takes_envelope=True)
def projected_with_envelope(event: Placed, envelope: Envelope) -> None: ...


@upcasts(Placed, from_version=1)
def upcast(data: dict[str, Any]) -> dict[str, Any]: ...


order: list[OrderPlaced | OrderCancelled] = published_together(Placed(order="1"))


# ------------------------------------------------------------------------------------- wrong


@handles(Placed)  # E: arg-type / reportArgumentType
def of_another_event(event: Cancelled) -> None: ...


@handles(Placed, Cancelled)  # E: arg-type / reportArgumentType
def too_narrow(event: Placed) -> None: ...


@handles(Placed, Cancelled, Shipped, Paid, Packed, Returned)  # E: arg-type / reportArgumentType
def too_narrow_for_six(event: Placed | Cancelled | Shipped | Paid | Packed) -> None: ...


@handles(Placed)  # E: arg-type / reportArgumentType
@handles(Cancelled)
def too_narrow_when_stacked(event: Cancelled) -> None: ...


@handles(Placed, many=True)  # E: arg-type / reportArgumentType
def without_a_list(events: Placed) -> None: ...


@handles(Placed)  # E: arg-type / reportArgumentType
def with_a_list(events: list[Placed]) -> None: ...


@handles(Placed, Cancelled, many=True)  # E: arg-type / reportArgumentType
def with_a_narrow_list(events: list[Placed]) -> None: ...


@handles(Placed, takes_envelope=True)  # E: arg-type / reportArgumentType
def without_the_envelope(event: Placed) -> None: ...


@handles(Placed)  # E: arg-type / reportArgumentType
def with_an_unasked_envelope(event: Placed, envelope: Envelope) -> None: ...


@handles(Placed, many=True, takes_envelope=True)  # E: arg-type / reportArgumentType
def with_one_envelope(events: list[Placed], envelope: Envelope) -> None: ...


@handles(Placed)  # E: arg-type / reportArgumentType
async def later(event: Placed) -> None: ...


@handles(Placed)  # E: arg-type / reportArgumentType
def with_a_result(event: Placed) -> int: ...


@handles(Placed, consumer="shipments")  # E: arg-type / reportArgumentType
def grouped_of_another_event(event: Cancelled) -> None: ...


@handles(Decimal)  # E: type-var / reportArgumentType
def of_no_event(event: Decimal) -> None: ...


@outbound(Placed)  # E: arg-type / reportArgumentType
def leaks_a_domain_event(event: Placed) -> Cancelled: ...


@outbound(Placed)  # E: arg-type / reportArgumentType
def leaks_domain_events(event: Placed) -> list[Cancelled]: ...


@outbound(Placed, Cancelled)  # E: arg-type / reportArgumentType
def translates_one_of_two(event: Placed) -> OrderPlaced: ...


@outbound(OrderPlaced)  # E: type-var / reportArgumentType
def translates_a_contract(event: OrderPlaced) -> OrderCancelled: ...


@outbound(Placed, consumer="statistics")  # E: arg-type / reportArgumentType
def leaks_apart(event: Placed) -> Cancelled: ...


@inbound(OrderPlaced, consumer="statistics")  # E: arg-type / reportArgumentType
def returns_a_contract_apart(event: OrderPlaced) -> OrderCancelled: ...


@inbound(OrderPlaced)  # E: arg-type / reportArgumentType
def returns_a_contract(event: OrderPlaced) -> OrderCancelled: ...


@inbound(Placed)  # E: type-var / reportArgumentType
def translates_a_domain_event(event: Placed) -> Cancelled: ...


@projects(Placed, Cancelled, into="board")  # E: arg-type / reportArgumentType
def projects_one_of_two(event: Placed) -> None: ...


@upcasts(Placed, from_version=1)  # E: type-var / reportArgumentType
def upcasts_text(data: str) -> str: ...


handles(Placed, transaction="mesage")  # E: call-overload / reportArgumentType
handles(Placed, consumer=1)  # E: call-overload / reportArgumentType
outbound(Placed, consumer=1)  # E: call-overload / reportArgumentType
inbound(OrderPlaced, consumer=1)  # E: call-overload / reportArgumentType
one(Cancelled(order="1"))  # E: arg-type / reportArgumentType
