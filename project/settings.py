"""Settings of the example project, from the environment; every variable has a default.

CONTEXTS                the contexts of this deployment, separated by commas, such as "ordering";
                        default: all, as one monolith
DATABASE_URL            the main database; default: the SQLite file db.sqlite3 beside manage.py
ORDERING_SOURCE         "stream": the context "ordering" does without an outbox; default: "outbox"
SHIPPING_DATABASE_URL   a database of its own for the context "shipping", where it is deployed
TRANSPORT_URL           what carries integration events; default local://
TRANSPORT_PREFIX        the first part of all names at the broker, where systems share one
SIGNING_KEYS            keys for signatures, as id:secret,id:secret; the first one signs, and all of
                        them are accepted; without keys messages are not signed
SIGNATURES_REQUIRED     whether unsigned messages are quarantined; default: yes, if there are keys
BUSINESS_DAY            the date of the business in ordering, such as 2018-05-06; default: today
CELERY_BROKER_URL       Celery's broker; when given, commits wake up its workers
SECRET_KEY              required when DEBUG is off
DEBUG                   default: on while no SECRET_KEY is given, off as soon as there is one
ALLOWED_HOSTS           host names separated by commas; needed when DEBUG is off
OUTBOX_INBOX_…          the keys of OUTBOX_INBOX, such as OUTBOX_INBOX_BATCH_SIZE=100,
                        OUTBOX_INBOX_PARTITIONS_INBOX=16, OUTBOX_INBOX_RETENTION=7d
"""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from project import environment, signing

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = environment.text("SECRET_KEY")
# Local use needs no configuration, and a deployment cannot stay in debug mode by omission: it must
# give a SECRET_KEY, and that switches DEBUG off.
DEBUG = environment.yes_or_no("DEBUG", default=not SECRET_KEY)
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured("DEBUG is off, so the variable SECRET_KEY must be set.")
    SECRET_KEY = "public, for local use only"  # noqa: S105
ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS")

# ----------------------------------------------------------------------------------- contexts
# The same code base is deployed as one process with all contexts, or as several with one each.
CONTEXT_APPS = {"ordering": "context_a", "shipping": "context_b"}
CONTEXTS = environment.chosen("CONTEXTS", tuple(CONTEXT_APPS))

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "outbox_inbox",
    *(CONTEXT_APPS[label] for label in CONTEXTS),
    "project",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
ASGI_APPLICATION = "project.asgi.application"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ---------------------------------------------------------------------------------- databases
DATABASES = {"default": environment.database("DATABASE_URL", f"sqlite:///{BASE_DIR}/db.sqlite3")}
DATABASE_ROUTERS = ["outbox_inbox.contexts.ContextRouter"]

if DATABASES["default"]["ENGINE"].endswith("mysql"):
    # Ordering's board is a projection of its stream, which MariaDB and MySQL cannot serve: there it
    # stays empty, and everything else works.
    SILENCED_SYSTEM_CHECKS = ["outbox_inbox.E010"]

# ------------------------------------------------------------------------------- outbox_inbox
OUTBOX_INBOX = {
    "TRANSPORTS": {"default": environment.transport("TRANSPORT_URL", "TRANSPORT_PREFIX")},
    **environment.outbox_inbox(os.environ),
}
contexts: dict[str, dict[str, object]] = {}
if "ordering" in CONTEXTS and environment.text("ORDERING_SOURCE"):
    contexts["ordering"] = {"source": environment.text("ORDERING_SOURCE")}
if "shipping" in CONTEXTS and environment.text("SHIPPING_DATABASE_URL"):
    DATABASES["shipping"] = environment.database("SHIPPING_DATABASE_URL")
    contexts["shipping"] = {"database": "shipping"}
if contexts := signing.entries(contexts, CONTEXTS):
    OUTBOX_INBOX["CONTEXTS"] = contexts

# ----------------------------------------------------------------------------------- business
BUSINESS_DAY = environment.day("BUSINESS_DAY")

# ------------------------------------------------------------------------------------- Celery
# Without a broker nothing is sent to Celery: run_contexts and the drain commands move the messages.
# memory:// keeps a worker that is started by mistake away from another system's RabbitMQ.
CELERY_BROKER_URL = environment.text("CELERY_BROKER_URL", "memory://")
if CELERY_BROKER_URL != "memory://":
    OUTBOX_INBOX.setdefault("WAKE_UP", "celery")
if CELERY_BROKER_URL.startswith(("redis://", "rediss://")):
    # A wake-up whose worker was killed is redelivered after this many seconds.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 300}
# Deployments that share a broker have a queue each: a worker fails on a task for a context that it
# does not have.
CELERY_TASK_DEFAULT_QUEUE = "celery"
if environment.text("CONTEXTS"):
    CELERY_TASK_DEFAULT_QUEUE = ".".join(["celery", *CONTEXTS])
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_TASK_IGNORE_RESULT = True
# A wake-up that a busy worker has prefetched wakes no idle one: prefetch one at a time.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1

# ------------------------------------------------------------------------------- error reports
DEFAULT_EXCEPTION_REPORTER_FILTER = "project.error_reports.HidingUrls"

# ------------------------------------------------------------------------------------ logging
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"outbox_inbox": {"handlers": ["stderr"], "level": "INFO", "propagate": False}},
}
