"""Count the attempts of a row across retries: a retry sets the counter of the row to zero."""

from collections.abc import Sequence
from typing import Any

from django.db.models import Sum
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox_inbox.models import OperatorAction, OperatorVerb
from outbox_inbox.models.operators import ROW_FIELDS


def earlier_attempts(rows: Sequence[Any]) -> dict[int, int]:
    """Return key -> failed attempts before the last retry, of the rows that have any; one query."""
    if not rows:
        return {}
    name = ROW_FIELDS[type(rows[0])]
    found = OperatorAction.objects.using(rows[0]._state.db or "default").filter(
        verb=OperatorVerb.RETRIED, attempts__gt=0, **{f"{name}__in": [row.pk for row in rows]}
    )
    return dict(found.order_by().values_list(name).annotate(Sum("attempts")))


def attempts_text(row: Any, earlier: int) -> str:
    """Return how often a row was tried, in all and since its last retry."""
    total = row.attempts + earlier
    text = str(ngettext("%s attempt", "%s attempts", total) % total)
    since = str(_("%s since the last retry") % row.attempts)
    return f"{text}, {since}" if earlier else text
