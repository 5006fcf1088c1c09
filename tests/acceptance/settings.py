"""The example project plus the two contexts of the tests, whose entries are the ledger.

For processes of their own: DATABASE_URL says on which database, as in production. Where the
example's contexts are deployed apart, the shop is with ordering, and the depot with shipping.
"""

from project.settings import *  # noqa: F403
from project.settings import CONTEXTS, INSTALLED_APPS

COMPANIONS = {"ordering": "tests.shop", "shipping": "tests.depot"}
INSTALLED_APPS = [*INSTALLED_APPS, *(COMPANIONS[label] for label in CONTEXTS)]
