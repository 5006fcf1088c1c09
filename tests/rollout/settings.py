"""The settings of both codes; only the new one has the bank."""

from project import environment
from tests.rollout import NEW

SECRET_KEY, USE_TZ, DEFAULT_AUTO_FIELD = "not a secret", True, "django.db.models.BigAutoField"
INSTALLED_APPS = ["outbox_inbox", "tests.rollout.shop", "tests.rollout.mail"]
INSTALLED_APPS += ["tests.rollout.bank"] if NEW else []
DATABASES = {"default": environment.database("DATABASE_URL")}
OUTBOX_INBOX = {}
SILENCED_SYSTEM_CHECKS = ["outbox_inbox.W010"]  # the writer is no module of the shop
if environment.text("OTHER_DATABASE_URL"):
    DATABASES["other"] = environment.database("OTHER_DATABASE_URL")
    labels = ("mail", "bank") if NEW else ("mail",)
    OUTBOX_INBOX["CONTEXTS"] = {label: {"database": "other"} for label in labels}
    DATABASE_ROUTERS = ["tests.rollout.routers.ByLabel"]
if environment.text("TRANSPORT_URL"):
    begin = environment.text("TRANSPORT_PREFIX")
    OUTBOX_INBOX["TRANSPORTS"] = {"default": environment.transport("TRANSPORT_URL", begin)}
