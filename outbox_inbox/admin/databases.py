"""Which database a page shows: contexts may live on several, each with queues of its own.

The address says it, ``?database=shipping``; a page that is filtered by a context shows that
context's database without being told.
"""

from typing import Any

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.db import DEFAULT_DB_ALIAS, router
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from outbox_inbox.contexts import contexts

PARAMETER = "database"
_CONTEXT = ("context__exact", "delivery__context")


def databases() -> list[str]:
    """Return the aliases of the databases on which contexts live, the default one first."""
    found = {context.database for context in contexts()}
    return sorted(found, key=lambda alias: (alias != DEFAULT_DB_ALIAS, alias))


def chosen(request: HttpRequest, model: type[Model]) -> str:
    """Return the alias of the database that a page shows, and that its actions change."""
    known = databases()
    asked = request.GET.get(PARAMETER)
    if asked in known:
        return str(asked)
    labels = {request.GET.get(name) for name in _CONTEXT}
    of_context = [context.database for context in contexts() if context.label in labels]
    usual = router.db_for_write(model)
    if of_context and usual in known:
        return of_context[0]
    return usual if usual in known or not known else known[0]


def query(row: Model) -> dict[str, str]:
    """Return what an address needs to lead to the database of a row; nothing for the usual one."""
    alias = row._state.db
    return {PARAMETER: alias} if alias and alias != router.db_for_write(type(row)) else {}


class DatabaseFilter(SimpleListFilter):
    """By database, where there are several. One of them is always chosen."""

    title = _("database")
    parameter_name = PARAMETER

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the databases of the contexts."""
        self._shown = chosen(request, model_admin.model)
        known = databases()
        return [(alias, alias) for alias in known] if len(known) > 1 else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows as they are: they come from the database that was asked for."""
        return queryset

    def choices(self, changelist: ChangeList) -> Any:
        """Yield the databases; there is no page that shows all of them at once."""
        for alias, title in self.lookup_choices:
            yield {
                "selected": alias == self._shown,
                "query_string": changelist.get_query_string({PARAMETER: alias}),
                "display": title,
            }


def with_query(path: str, parameters: dict[str, Any]) -> str:
    """Return an address with these parameters."""
    return f"{path}?{urlencode(parameters)}" if parameters else path
