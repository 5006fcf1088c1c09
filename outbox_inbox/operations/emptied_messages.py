"""Empties the texts of messages whose deliveries are finished and gone, and keeps a digest of them.

A row of the inbox must stay for as long as its message can come again. What the message said, which may
be about people, need not.
"""

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from django.db import connections
from django.db.models import CharField, Func, QuerySet, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Concat

from outbox_inbox.models import InboxMessage
from outbox_inbox.queues.contents import headers_digest
from outbox_inbox.queues.statements.dialects import dialect


class _Sha256(Func):
    """SHA-256 of a text in UTF-8, in hexadecimal digits; Django's needs an extension of PostgreSQL."""

    output_field = CharField()
    template = "SHA2(%(expressions)s, 256)"

    def as_postgresql(self, compiler: Any, connection: Any, **_: Any) -> Any:
        template = "encode(sha256(convert_to(%(expressions)s, 'UTF8')), 'hex')"
        return self.as_sql(compiler, connection, template=template)

    def as_sqlite(self, compiler: Any, connection: Any, **_: Any) -> Any:
        return self.as_sql(compiler, connection, template="SHA256(%(expressions)s)")


def full_messages(using: str) -> QuerySet[InboxMessage]:
    """Return the inbox messages of a database that still have their texts."""
    return InboxMessage.objects.using(using).filter(emptied_at__isnull=True)


def empty_messages(using: str, ids: Collection[int]) -> None:
    """Empty messages in the open transaction; one that another process has emptied stays as it is.

    The caller has found that each of their deliveries is finished. None of them is opened again, and no
    new one is made of a message that is there already.
    """
    groups: defaultdict[str, list[int]] = defaultdict(list)
    rows, now = full_messages(using), RawSQL(dialect(connections[using]).now, ())
    for pk, headers in rows.filter(pk__in=ids).values_list("pk", "headers"):
        groups[headers_digest(headers)].append(pk)
    for digest, members in groups.items():
        # MySQL and MariaDB assign from left to right: the digest is of the payload before.
        rows.filter(pk__in=members).update(
            digest=Concat(_Sha256("payload"), Value(f":{digest}")),
            payload="",
            headers="{}",
            emptied_at=now,
        )
