"""The admin in a real browser: an operator's way through it, and what the page must not do."""

import re
from collections.abc import Iterator

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from outbox_inbox.models import Checkpoint, DeliveryState, Interest, OutboxState
from outbox_inbox.transports import ReceivedMessage
from tests import services
from tests.support import rows

pytestmark = [pytest.mark.browser, pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

SWITCHES = [
    "--no-sandbox",  # Chromium has none for root, the user of a test container
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
HOSTILE = (
    "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>"
    "</pre><svg onload='window.owned = 1'>"
)
READABLE = 4.5  # contrast of small text, WCAG 2 level AA


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, once for all tests of this module."""
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright runs an event loop in this thread, in which Django refuses to wait for the database.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        chromium = playwright.chromium.launch(executable_path=services.CHROMIUM.url, args=SWITCHES)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, live_server, admin_user) -> Iterator[Page]:
    """A page on which a superuser has logged in, as people do."""
    with browser.new_context(base_url=live_server.url) as context:
        page = context.new_page()
        page.goto("/admin/")
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill("password")
        page.get_by_role("button", name="Log in").click()
        yield page


def test_an_operator_finds_a_dead_message_and_retries_it(page):
    """From the start page to the report: filter by dead, select, retry."""
    rows.outbox_message(key="fine", state="sent")
    dead = rows.dead_message(key="stuck")
    page.get_by_role("link", name="Outbox messages").first.click()
    page.get_by_role("link", name="dead", exact=True).click()
    page.get_by_role("row", name="stuck").get_by_role("checkbox").check()
    page.get_by_role("combobox", name="Action").select_option("Retry")
    page.get_by_role("button", name="Go").click()
    expect(page.locator(".messagelist .success")).to_have_text("Retried 1 outbox message.")
    dead.refresh_from_db()
    assert dead.state == OutboxState.PENDING


def test_an_operator_discards_from_the_inspect_page(page):
    """A button, a reason, and the history names the operator and the reason."""
    row = rows.dead_delivery(key="stuck")
    page.goto(f"/admin/outbox_inbox/delivery/{row.pk}/change/")
    page.get_by_role("button", name="Discard…").click()
    page.get_by_label("Reason").fill("shipped by hand")
    page.get_by_role("button", name="Discard").click()
    expect(page.locator(".field-state_badge .oi-state")).to_have_text("discarded")
    page.get_by_role("link", name="History").click()
    expect(page.locator("#change-history")).to_contain_text("Discarded: shipped by hand")


def test_going_back_discards_nothing(page):
    """The question for a reason has a way out."""
    row = rows.dead_delivery(key="stuck")
    page.goto(f"/admin/outbox_inbox/delivery/{row.pk}/change/")
    page.get_by_role("button", name="Discard…").click()
    page.get_by_role("link", name="Back").click()
    row.refresh_from_db()
    assert row.state == DeliveryState.DEAD


def test_a_search_leads_from_a_message_to_its_conversation(page):
    """The correlation id on an inspect page is a way to the related messages."""
    row = rows.outbox_message(key="first")
    rows.outbox_message(key="second", correlation_id=row.correlation_id)
    page.goto(f"/admin/outbox_inbox/outboxmessage/{row.pk}/change/")
    page.locator(".field-correlation_links").get_by_role("link", name="outbox").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(2)


@pytest.mark.parametrize("field", ["payload", "headers", "type", "key", "error"])
def test_nothing_in_a_message_is_executed(page, field):
    """A hostile message is text on its list, its inspect page and the question for a reason."""
    row = rows.dead_message(**{field: HOSTILE})
    page.goto("/admin/outbox_inbox/outboxmessage/")
    on_list = page.evaluate("window.owned")
    page.goto(f"/admin/outbox_inbox/outboxmessage/{row.pk}/change/")
    on_inspect = page.evaluate("window.owned")
    page.get_by_role("button", name="Discard…").click()
    expect(page.get_by_label("Reason")).to_be_visible()
    assert (on_list, on_inspect, page.evaluate("window.owned")) == (None, None, None)


def test_nothing_in_a_traceback_is_executed(page):
    """A hostile traceback is text on the page of its delivery."""
    row = rows.dead_delivery()
    rows.attempt(row, number=2, traceback=HOSTILE, error=HOSTILE)
    page.goto(f"/admin/outbox_inbox/delivery/{row.pk}/change/")
    expect(page.locator("details[open] pre.oi-text")).to_have_text(HOSTILE)
    assert page.evaluate("window.owned") is None


def test_nothing_in_a_quarantined_message_is_executed(page):
    """Its attributes and its payload are text, on each page that an operator meets it on."""
    attributes = {"id": HOSTILE, "type": HOSTILE, "source": HOSTILE, HOSTILE: HOSTILE}
    message = ReceivedMessage(receipt=None, attributes=attributes, data=HOSTILE.encode())
    row = rows.quarantined(message, error=HOSTILE)
    owned = []
    for path in ("", f"{row.pk}/change/"):
        page.goto(f"/admin/outbox_inbox/quarantinedmessage/{path}")
        owned.append(page.evaluate("window.owned"))
    expect(page.locator(".field-payload pre.oi-text")).to_have_text(HOSTILE)
    page.get_by_role("button", name="Discard…").click()
    expect(page.get_by_label("Reason")).to_be_visible()
    assert [*owned, page.evaluate("window.owned")] == [None, None, None]


def test_an_operator_releases_what_can_be_read_by_now(page):
    """From the start page to the report: open the message, release it, and see why it stays."""
    rows.quarantined()
    page.get_by_role("link", name="Quarantined messages").first.click()
    page.get_by_role("link", name="shop.sold.v2").click()
    page.get_by_role("button", name="Release").click()
    expect(page.locator(".messagelist")).to_contain_text("Still quarantined: 1 malformed.")
    expect(page.locator(".field-reason_name")).to_contain_text("malformed")


def test_a_strict_content_security_policy_has_nothing_to_refuse(page):
    """List, inspect page and question work where only files of the site itself are allowed."""
    row = rows.dead_delivery(key="stuck")

    def strictly(route: Route) -> None:
        response = route.fetch()
        policy = {"content-security-policy": "default-src 'self'; img-src 'self' data:"}
        route.fulfill(response=response, headers=response.headers | policy)

    refused: list[str] = []
    page.on("console", lambda line: "Security" in line.text and refused.append(line.text))
    page.route("**/admin/outbox_inbox/**", strictly)
    page.goto("/admin/outbox_inbox/delivery/")
    page.goto(f"/admin/outbox_inbox/delivery/{row.pk}/change/")
    page.get_by_role("button", name="Discard…").click()
    expect(page.get_by_label("Reason")).to_be_visible()
    assert refused == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_is_readable(page, scheme):
    """The badge of each state has enough contrast in light and in dark mode."""
    for state in OutboxState:
        rows.outbox_message(state=state)
    page.emulate_media(color_scheme=scheme)
    page.goto("/admin/outbox_inbox/outboxmessage/")
    badges = page.locator(".oi-state").all()
    ratios = {badge.inner_text(): contrast(*colours(badge)) for badge in badges}
    assert {state: ratio for state, ratio in ratios.items() if ratio < READABLE} == {}


LONG = "PermanentError: the calendar service said 410 Gone for " + "x" * 200


@pytest.mark.parametrize(
    "table",
    [
        "outboxmessage",
        "delivery",
        "deliveryattempt",
        "checkpoint",
        "processstate",
        "quarantinedmessage",
        "snapshot",
        "partition",
        "interest",
        "operatoraction",
    ],
)
def test_a_list_shows_all_its_columns_on_a_small_screen(page, table):
    """Names and errors of any length leave the reason in sight, without scrolling sideways."""
    fill()
    page.set_viewport_size({"width": 1400, "height": 900})
    page.goto(f"/admin/outbox_inbox/{table}/")
    expect(page.locator("#result_list tbody tr").first).to_be_visible()
    assert page.locator(".results").evaluate("e => e.scrollWidth - e.clientWidth") <= 0


def fill() -> None:
    """Make rows that have much to show."""
    now, key = timezone.now(), "demo-397567390-10"
    rows.dead_message(type="ordering.shipment_dispatched_late", key=key, error=LONG)
    message = rows.inbox_message(context="ordering", type="ordering.Shipped", key=key)
    failed = {"state": "dead", "holds": True, "attempts": 12, "error": LONG}
    rows.delivery(message, consumer="ordering.watch", **failed)
    delivery = rows.delivery(message, consumer="ordering.handlers.keep_shipments", **failed)
    rows.operator_action(delivery, operator="anna.of.operations@worker-12", error=LONG)
    rows.attempt(delivery, error=LONG)
    rows.quarantined(message_id=f"{message.message_id}", error=LONG)
    rows.snapshot(stream="order-01a21241-f9b1-76d0-a4a6-35fee2b17549")
    rows.partition(context="elsewhere", retry_at=now, outages=12, error=LONG)
    Checkpoint.objects.create(
        context="ordering", subscription="country_board", retry_at=now, failures=7, error=LONG
    )
    rows.process(key=key)
    Interest.objects.create(
        context="ordering",
        kind="consumer",
        name="ordering.handlers.keep_shipments_of_partners",
        type="ordering.shipment_dispatched_late",
        schema_version=1,
        hash=1,
        confirmed_at=now,
        retired_at=now,
        renamed_to="ordering.shipments_of_partners",
    )


def test_an_operator_finds_out_what_keeps_a_process(page):
    """From the list of those that are stuck to the dead delivery, and back after the retry."""
    fill()
    page.get_by_role("link", name="Processes").first.click()
    page.get_by_role("link", name="stuck", exact=True).click()
    page.locator(".field-state_badge a").click()
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".messagelist .success")).to_have_text("Retried 1 delivery.")
    page.locator(".field-instance a").click()
    expect(page.locator(".field-state_badge .oi-state")).to_have_text("running")


def test_an_operator_resumes_a_read_model_that_failed(page):
    """The page shows why it backs off and until when; a button ends it, and the page reports it."""
    fill()
    page.get_by_role("link", name="Checkpoints").first.click()
    page.get_by_role("link", name="ordering country_board").click()
    expect(page.locator(".field-state_badge .oi-state")).to_have_text("backing off")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".messagelist .success")).to_have_text("Resumed 1 checkpoint.")
    expect(page.locator(".field-state_badge .oi-state")).to_have_text("working")


def colours(element) -> list[list[int]]:
    """Return foreground and background of an element as RGB."""
    shown = element.evaluate(
        "e => { const s = getComputedStyle(e); return [s.color, s.backgroundColor] }"
    )
    return [[int(number) for number in re.findall(r"\d+", colour)[:3]] for colour in shown]


def contrast(first: list[int], second: list[int]) -> float:
    """Return the contrast ratio of two colours, as WCAG 2 defines it."""
    dark, light = sorted(luminance(colour) for colour in (first, second))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: list[int]) -> float:
    """Return the relative luminance of a colour."""
    parts = [each / 255 for each in colour]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
