"""The example project's settings with the databases of a test run.

TEST_DATABASE=sqlite (the default), postgres, mariadb or mysql chooses the vendor. There are two databases,
`default` and `other`, so that contexts can be put on different ones. SQLite's are files, since
several connections, threads and processes use them. Their names are of this process only, so that
two runs side by side do not meet.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from tests import services

TEST_DATABASE = os.environ.get("TEST_DATABASE") or "sqlite"
MEMORY = Path("/dev/shm")  # noqa: S108  the folder made in it is ours alone


def _folder() -> Path:
    """Return a folder of this process, where there is room in memory: each commit is synced."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2**30
    folder = tempfile.mkdtemp(prefix="outbox_inbox-tests-", dir=MEMORY if roomy else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


# What a developer's shell says about the project is no business of the tests.
for name in (
    "CONTEXTS",
    "ORDERING_SOURCE",
    "BUSINESS_DAY",
    "SHIPPING_DATABASE_URL",
    "TRANSPORT_URL",
    "TRANSPORT_PREFIX",
    "CELERY_BROKER_URL",
    "SECRET_KEY",
    "DEBUG",
):
    os.environ.pop(name, None)
for name in [name for name in os.environ if name.startswith("OUTBOX_INBOX_")]:
    del os.environ[name]

if TEST_DATABASE == "sqlite":
    NAME = f"{_folder()}/test_{{alias}}.sqlite3"
    os.environ["DATABASE_URL"] = "sqlite:///" + NAME.format(alias="project")
elif TEST_DATABASE in services.DATABASES:
    NAME = f"test_outbox_inbox_{os.getpid()}_{{alias}}"
    os.environ["DATABASE_URL"] = services.DATABASES[TEST_DATABASE].url
else:
    expected = ", ".join(["sqlite", *services.DATABASES])
    raise ValueError(f"TEST_DATABASE={TEST_DATABASE!r}; expected one of {expected}.")

from project.settings import *  # noqa: E402, F403  reads the variables set above
from project.settings import DATABASES, INSTALLED_APPS  # noqa: E402

DATABASES["other"] = dict(DATABASES["default"])
for alias, database in DATABASES.items():
    # Neither needs the other, so that a run may also make one of them.
    database["TEST"] = {"NAME": NAME.format(alias=alias), "DEPENDENCIES": []}

PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.MD5PasswordHasher"
]  # fast: there is nothing to protect

INSTALLED_APPS = [*INSTALLED_APPS, "tests.shop", "tests.depot"]
# Only its tables: the tests of read models make a context of it.
INSTALLED_APPS.append("tests.board.apps.Tables")
DATABASE_ROUTERS = ["tests.support.routers.AlsoEmptyDatabases"]
