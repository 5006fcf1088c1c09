"""The example project plus the two contexts of the tests, whose entries are the ledger.

For processes of their own: DATABASE_URL says on which database, as in production.
"""

from project.settings import *  # noqa: F403
from project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.shop", "tests.depot"]
