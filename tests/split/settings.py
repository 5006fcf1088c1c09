"""The settings of all its processes: CONTEXTS says which contexts a process has."""

import os

from project import environment

SECRET_KEY, USE_TZ, DEFAULT_AUTO_FIELD = "not a secret", True, "django.db.models.BigAutoField"
LABELS = environment.chosen("CONTEXTS", ("sales", "billing"))
ABSENT = environment.words("ABSENT_APPS")
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.sites",
    "django.contrib.flatpages",
    "tests.split.accounts",
    "tests.split.tags",
    "tests.split.seeds",
    "outbox_inbox",
    *(f"tests.split.{label}" for label in LABELS),
]
if "billing" in LABELS:
    INSTALLED_APPS.append("tests.split.billing.printing")
INSTALLED_APPS = [name for name in INSTALLED_APPS if name.rpartition(".")[2] not in ABSENT]
AUTH_USER_MODEL = "accounts.User"
SITE_ID = 1
DATABASES = {"default": environment.database("DATABASE_URL")}
DATABASE_ROUTERS = ["outbox_inbox.contexts.ContextRouter"]
OUTBOX_INBOX = {}
if "billing" in LABELS and os.environ.get("BILLING_DATABASE_URL"):
    DATABASES["apart"] = environment.database("BILLING_DATABASE_URL")
    OUTBOX_INBOX["CONTEXTS"] = {"billing": {"database": "apart"}}
