"""What a process may declare, and how a mistake in it is reported."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.test import override_settings

from outbox_inbox import DomainEvent, checks, upcasts
from outbox_inbox.contexts import get_context
from outbox_inbox.events.codec import decode, encode
from outbox_inbox.exceptions import InvalidEvent
from outbox_inbox.processes import Process, Route, begin_step, continues, starts, times_out


class Started(DomainEvent):
    """Something has begun."""

    order: str
    part: str | None = None


class Sample(Process):
    """A process of these tests."""

    count: int = 0

    @starts(Started, by="order")
    def start(self, event: Started) -> None:
        """Begin."""

    @times_out("late")
    def late(self) -> None:
        """Be late."""


def test_fields_are_stored_and_read_as_those_of_an_event() -> None:
    """The state goes through the codec."""
    assert decode(Sample, encode(Sample(count=3)), version=1).count == 3  # type: ignore[type-var, arg-type]


def test_an_older_state_is_upcast() -> None:
    """`upcasts` takes a process as it takes an event."""

    class Grown(Process, version=2):
        total: int = 0

    @upcasts(Grown, from_version=1)
    def rename(data: dict[str, Any]) -> dict[str, Any]:
        return {"total": data["count"]}

    found = decode(Grown, '{"count":3}', version=1, upcasters={1: rename})  # type: ignore[type-var]
    assert found.total == 3


def test_a_field_without_a_default_is_refused() -> None:
    """An instance begins with nothing."""
    with pytest.raises(TypeError, match="count needs a default"):

        class Wrong(Process):
            count: int


@pytest.mark.parametrize("has_default", [True, False])
@pytest.mark.parametrize("taken", ["key", "cancel", "finish", "time_out", "routes", "_step"])
def test_a_field_cannot_hide_what_every_process_has(taken: str, has_default: bool) -> None:
    """`self.key` would be the field, with the property of the base as its default."""
    body = {"__annotations__": {taken: str}, **({taken: ""} if has_default else {})}
    with pytest.raises(TypeError, match=rf"Wrong\.{taken} hides"):
        type(Process)("Wrong", (Process,), body)


def test_a_step_cannot_hide_what_every_process_has() -> None:
    """`self.cancel("late")` would call the step, and cancel nothing."""
    with pytest.raises(TypeError, match=r"cancel hides"):

        class Wrong(Process):
            @continues(Started, by="order")
            def cancel(self, event: Started) -> None: ...  # type: ignore[override]


def test_a_mixin_cannot_hide_what_every_process_has() -> None:
    """Where the method comes from makes no difference."""

    class Mixin:
        def finish(self) -> None: ...

    with pytest.raises(TypeError, match=r"finish hides"):

        class Wrong(Mixin, Process):
            pass


def test_a_process_may_be_derived_from_another() -> None:
    """What the base class was given by the framework is not taken for the user's."""

    class Further(Sample, version=2):
        more: int = 0

    assert (Further.time_outs, Further().more) == ({"late": "late"}, 0)


def test_a_field_that_the_event_does_not_have_is_refused() -> None:
    """The error lists the fields."""
    with pytest.raises(ValueError, match=r"'ordr' is not a field of it; fields: order, part"):
        starts(Started, by="ordr")


@pytest.mark.parametrize("wrong", [str, DomainEvent, "Started", None])
def test_what_is_no_event_is_refused(wrong: Any) -> None:
    """Marks take the class of an event."""
    with pytest.raises(TypeError, match="takes the class of an event"):
        continues(wrong, by="order")


def test_an_unknown_way_with_missing_instances_is_refused() -> None:
    """There are two."""
    with pytest.raises(ValueError, match="'keep' or 'ignore'"):
        continues(Started, by="order", missing="drop")  # type: ignore[arg-type]


def test_an_async_method_is_refused() -> None:
    """A transaction does not span an await."""

    async def later(self: Any, event: Started) -> None: ...

    with pytest.raises(TypeError, match="is async"):
        starts(Started, by="order")(later)


def test_two_methods_for_one_event_are_refused() -> None:
    """Which of them would be called?"""
    with pytest.raises(ValueError, match=r"two methods marked @starts\(Started\)"):

        class Wrong(Process):
            @starts(Started, by="order")
            def one(self, event: Started) -> None: ...

            @starts(Started, by="order")
            def two(self, event: Started) -> None: ...


def test_two_methods_for_one_time_out_are_refused() -> None:
    """Which of them would be called?"""
    with pytest.raises(ValueError, match=r"two methods marked @times_out\('late'\)"):

        class Wrong(Process):
            @times_out("late")
            def one(self) -> None: ...

            @times_out("late")
            def two(self) -> None: ...


@pytest.mark.parametrize(
    "options", [{"name": ""}, {"name": "x" * 181}, {"version": 0}, {"transaction": "list"}]
)
def test_wrong_class_arguments_are_refused(options: dict[str, Any]) -> None:
    """In the class statement itself."""
    with pytest.raises(ValueError, match=next(iter(options))):
        type(Process)("Wrong", (Process,), {}, **options)


def test_several_fields_make_a_key_that_cannot_be_mistaken() -> None:
    """They are joined as the keys of events are."""
    route = Route(Started, ("order", "part"))
    assert route.instance(Started(order="a/b", part="c")) == "a%2Fb/c"


def test_an_empty_key_is_refused() -> None:
    """Text without characters names no instance."""
    with pytest.raises(InvalidEvent, match="1 to 200 characters"):
        Route(Started, "order").instance(Started(order=""))


def test_an_unknown_time_out_is_refused() -> None:
    """The error names those that there are."""
    process = Sample()
    begin_step(process, "a")
    with pytest.raises(ValueError, match=r"marked @times_out\('lat'\); did you mean 'late'"):
        process.cancel("lat")


def test_a_naive_time_is_refused() -> None:
    """It does not say which moment is meant."""
    process = Sample()
    begin_step(process, "a")
    with pytest.raises(ValueError, match="aware datetime"):
        process.time_out("late", at=datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("year", [1, 9999])
def test_a_time_at_an_end_of_the_calendar_is_refused(year: int) -> None:
    """It could be stored, but not shown in another time zone."""
    process = Sample()
    begin_step(process, "a")
    with pytest.raises(ValueError, match="year from 2 to 9998"):
        process.time_out("late", at=datetime(year, 6, 1, tzinfo=UTC))


def test_outside_a_step_nothing_can_be_asked_for() -> None:
    """There is no transaction to ask in."""
    with pytest.raises(RuntimeError, match="not in a step"):
        Sample().time_out("late", at=datetime(2026, 1, 1, tzinfo=UTC))


def found_in_yard(monkeypatch: pytest.MonkeyPatch, *classes: type) -> list[CheckMessage]:
    """Return what the checks say of a yard with these processes."""
    import tests.yard.processes as module
    from tests.settings import INSTALLED_APPS

    for cls in classes:
        cls.__module__ = module.__name__
        monkeypatch.setattr(module, cls.__name__, cls, raising=False)
    with override_settings(INSTALLED_APPS=[*INSTALLED_APPS, "tests.yard.apps.YardConfig"]):
        return [
            message
            for check in checks.CHECKS
            for message in check(get_context("yard"))
            if message.id != "outbox_inbox.E005"
        ]


def test_a_right_process_passes_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of it."""
    assert found_in_yard(monkeypatch) == []


def test_a_wrong_signature_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """E008 names the method."""
    from tests.yard.events import Begun

    class Wrong(Process):
        @starts(Begun, by="order")
        def begin(self) -> None: ...

        @times_out("late")
        def late(self, event: object) -> None: ...

    found = found_in_yard(monkeypatch, Wrong)
    assert [message.id for message in found] == ["outbox_inbox.E008"] * 2
    assert ".begin cannot be called with self and the event" in found[0].msg
    assert ".late cannot be called with self: missing" in found[1].msg


def test_a_process_that_nothing_starts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """E008: it would never run."""
    from tests.yard.events import Begun

    class Idle(Process):
        @continues(Begun, by="order")
        def go(self, event: Begun) -> None: ...

    assert "never started" in found_in_yard(monkeypatch, Idle)[0].msg


def test_two_processes_of_one_name_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """E011, as for all consumers."""
    from tests.yard.events import Begun

    class Second(Process, name="deal"):
        @starts(Begun, by="order")
        def begin(self, event: Begun) -> None: ...

    assert [each.id for each in found_in_yard(monkeypatch, Second)] == ["outbox_inbox.E011"]


def test_a_field_that_cannot_be_stored_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """E015 names it."""
    from tests.yard.events import Begun

    class Odd(Process):
        thing: object = None

        @starts(Begun, by="order")
        def begin(self, event: Begun) -> None: ...

    found = found_in_yard(monkeypatch, Odd)
    assert [(each.id, "thing" in each.msg) for each in found] == [("outbox_inbox.E015", True)]
