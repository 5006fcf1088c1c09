"""Who listens, and to what, in the admin."""

from datetime import timedelta

import pytest
from django.utils import timezone

from outbox_inbox.models import Delivery, Interest
from outbox_inbox.queues.interests import store_interests
from tests.shop.events import Noted
from tests.support.movers import deliver, steps
from tests.support.pages import SCRIPT, list_page, page

pytestmark = pytest.mark.django_db
MODEL = "interest"
NOTE = "shop.handlers.note"


@pytest.fixture(autouse=True)
def stored(db):
    """What the code of this process has."""
    store_interests("default")


def interest(name=NOTE):
    """Return the interest of a consumer of the shop."""
    return Interest.objects.get(context="shop", name=name, type="shop.Noted")


def test_the_list_shows_who_listens(admin_client):
    """With the state, for the consumers of one context."""
    found = list_page(admin_client, MODEL, context__exact="shop", type__exact="shop.Noted")
    assert ("note" in found, "listens" in found, "retired" in found) == (True, True, False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"retired_at": timezone.now()}, "retired"), ({"renamed_to": "shop.other"}, "shop.other")],
)
def test_the_list_shows_who_listens_no_more(admin_client, changes, said):
    """What was retired or renamed stays there, with the reason."""
    Interest.objects.filter(pk=interest().pk).update(**changes)
    assert said in list_page(admin_client, MODEL, context__exact="shop", type__exact="shop.Noted")


def test_a_page_links_to_the_deliveries_of_a_consumer_that_is_gone(admin_client):
    """The list of deliveries has no filter for a name that the code does not have."""
    deliver(*steps(Noted, 1))
    Delivery.objects.filter(consumer=NOTE).update(consumer="shop.old")
    row = interest()
    row.pk, row.name, row.confirmed_at = None, "shop.old", timezone.now() - timedelta(days=1)
    row.save()
    found = page(admin_client, row)
    address = "consumer__exact=shop.old"
    assert address in found
    deliveries = list_page(admin_client, "delivery", consumer__exact="shop.old")
    assert "shop.old" in deliveries


def test_a_hostile_name_is_shown_as_text(admin_client):
    """It may come from the code of another team on this database."""
    Interest.objects.filter(pk=interest().pk).update(name=SCRIPT, renamed_to=SCRIPT)
    assert SCRIPT not in list_page(admin_client, MODEL, context__exact="shop")
