import pytest

from tests.support.checked import ids, run, single

pytestmark = pytest.mark.usefixtures("fit_database")

MODELS = """
    from django.db import models

    class Invoice(models.Model): ...
"""


def basket(packages, *fields):
    """Write a context "shop" with a model that has these fields."""
    model = "\n    ".join(["class Basket(models.Model):", *(fields or ["..."])])
    packages.context("shop", models=f"from django.db import models\n\n{model}\n")


def test_w006_foreign_key(packages):
    """A foreign key to another context's model ties the two together."""
    packages.context("billing", models=MODELS)
    basket(packages, 'invoice = models.ForeignKey("billing.Invoice", on_delete=models.CASCADE)')
    message = single("W006", run(packages))
    assert message.obj == "shop"
    assert "shop.Basket.invoice refers to billing.Invoice" in message.msg


def test_w006_many_to_many(packages):
    """A many-to-many relation does so as well."""
    packages.context("billing", models=MODELS)
    basket(packages, 'invoices = models.ManyToManyField("billing.Invoice")')
    assert "W006" in ids(packages)


def test_w006_within_and_outside(packages):
    """Keys within a context, and to an app that is not a context, pass."""
    basket(
        packages,
        'owner = models.ForeignKey("auth.User", on_delete=models.CASCADE)',
        'former = models.ForeignKey("self", null=True, on_delete=models.CASCADE)',
    )
    assert ids(packages) == []


def test_w006_forked_app(packages):
    """A model belongs to the context whose app has it, wherever its class was written."""
    fork = """
        from django.db import models

        class Invoice(models.Model):
            __module__ = "library.abstract_models"
            class Meta:
                app_label = "billing"
    """
    packages.context("billing", models=fork)
    basket(packages, 'invoice = models.ForeignKey("billing.Invoice", on_delete=models.CASCADE)')
    assert "of the context 'billing'" in single("W006", run(packages)).msg


class Apart:
    """Route the context "shop" to a database of its own, where nothing else but the queues is."""

    def db_for_write(self, model, **_):
        return "other" if model._meta.app_label == "shop" else None

    def allow_migrate(self, db, app_label, **_):
        return app_label == "outbox_inbox" or (db == "other") == (app_label == "shop")


class Loose(Apart):
    """Route it there, and let all tables be made everywhere."""

    def allow_migrate(self, db, app_label, **_):
        return True


APART = {"OUTBOX_INBOX": {"CONTEXTS": {"shop": {"database": "other"}}}}


@pytest.mark.parametrize("router", [Apart, Loose])
@pytest.mark.parametrize(
    "field",
    [
        'owner = models.ForeignKey("auth.User", on_delete=models.CASCADE)',
        'owners = models.ManyToManyField("auth.User")',
    ],
)
def test_w006_to_an_app_on_another_database(packages, field, router):
    """Without the table `migrate` fails; with an empty one nothing can be stored."""
    basket(packages, field)
    message = single("W006", run(packages, DATABASE_ROUTERS=[router()], **APART))
    assert "refers to auth.User, which is on the database 'default'" in message.msg


@pytest.mark.parametrize(
    "field",
    [
        'user = models.ForeignKey("auth.User", models.CASCADE, db_constraint=False)',
        'users = models.ManyToManyField("auth.User", db_constraint=False)',
        "user_id = models.BigIntegerField()",
    ],
)
def test_w006_without_a_constraint(packages, field):
    """What makes no constraint is fit for two databases."""
    basket(packages, field)
    assert ids(packages, DATABASE_ROUTERS=[Apart()], **APART) == []


NOTE = """
    from django.db import models

    class Note(models.Model):
        basket = models.ForeignKey("shop.Basket", on_delete=models.CASCADE)
        class Meta:
            app_label = "PACKAGE"
"""


def test_w006_from_an_app_on_another_database(packages):
    """The table that is referred to is not where the plain app has its own."""
    basket(packages)
    name = packages.write("notes", models=NOTE)
    message = single("W006", run(packages, DATABASE_ROUTERS=[Apart()], **APART))
    assert message.obj == "shop"
    assert f"{name}.Note.basket is on the database 'default'" in message.msg


def test_w006_from_an_app_on_the_same_database(packages):
    """A plain app may refer to the context as long as they are together."""
    basket(packages)
    packages.write("notes", models=NOTE)
    assert ids(packages) == []
