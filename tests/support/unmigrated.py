"""A test database that is made from the models, in a process of its own; prints what it keeps.

Run as ``python -m tests.support.unmigrated``.
"""

import json
import sys

import django
from django.db import IntegrityError, connection, transaction


def main() -> None:
    """Make the database, try what the migrations promise, and remove it."""
    django.setup()
    connection.settings_dict["TEST"]["MIGRATE"] = False
    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        sys.stdout.write(json.dumps(findings()))
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)


def findings() -> dict[str, object]:
    """Return what the tables lack, which keys are different, and whether a stream is read."""
    from outbox_inbox.contexts import get_context
    from outbox_inbox.models import InboxMessage, OutboxMessage
    from outbox_inbox.queues.schema import schema_problems
    from outbox_inbox.streams.subscriptions import follow
    from outbox_inbox.testing import drain
    from tests.shop.events import Noted
    from tests.support.movers import put

    keys = ["Key", "key", "key "]
    for key in keys:
        put(Noted(order="a", number=1), key=key, stream=key)
    drain()
    row = InboxMessage.objects.first()
    twice = False
    if row is not None:
        row.pk = None
        try:
            with transaction.atomic():
                row.save(force_insert=True)
            twice = True
        except IntegrityError:
            pass
    followed = None
    if connection.vendor != "mysql":
        with follow(get_context("shop"), "all") as cursor:
            followed = len(cursor.read(10)) if cursor else 0
    return {
        "lacking": schema_problems(connection),
        "keys": [OutboxMessage.objects.filter(key=key).count() for key in keys],
        "twice": twice,
        "followed": followed,
    }


if __name__ == "__main__":
    main()
