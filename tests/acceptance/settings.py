"""The example project plus the two contexts of the tests, whose entries are the ledger.

For processes of their own: DATABASE_URL says on which database, as in production. As shipping has
its SHIPPING_DATABASE_URL there, the depot has a DEPOT_DATABASE_URL here; the shop has the source
that ORDERING_SOURCE gives to ordering. Where the
example's contexts are deployed apart, the shop is with ordering, and the depot with shipping.
"""

from project import environment
from project.settings import *  # noqa: F403
from project.settings import CONTEXTS, DATABASES, INSTALLED_APPS, OUTBOX_INBOX

COMPANIONS = {"ordering": "tests.shop", "shipping": "tests.depot"}
INSTALLED_APPS = [*INSTALLED_APPS, *(COMPANIONS[label] for label in CONTEXTS)]

if environment.text("ORDERING_SOURCE") and "ordering" in CONTEXTS:
    OUTBOX_INBOX["CONTEXTS"]["shop"] = OUTBOX_INBOX["CONTEXTS"]["ordering"]
if environment.text("DEPOT_DATABASE_URL"):
    DATABASES["depot"] = environment.database("DEPOT_DATABASE_URL")
    OUTBOX_INBOX.setdefault("CONTEXTS", {})["depot"] = {"database": "depot"}
