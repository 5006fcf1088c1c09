"""Choose the database that a page shows.

Contexts may have databases of their own, and the same number names another row in each of them. The
address names the database (``?database=shipping``); a page that is filtered by a context shows the
database of that context.
"""

from typing import Any

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.db import DEFAULT_DB_ALIAS, router
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from outbox_inbox.contexts import contexts

PARAMETER = "database"
_CONTEXT_PARAMETERS = ("context__exact", "delivery__context")


def context_databases() -> list[str]:
    """Return the aliases of the databases of all contexts, the default one first."""
    found = {context.database for context in contexts()}
    return sorted(found, key=lambda alias: (alias != DEFAULT_DB_ALIAS, alias))


def chosen_database(request: HttpRequest, model: type[Model]) -> str:
    """Return the alias of the database that a page shows, and that its actions change."""
    known = context_databases()
    asked = request.GET.get(PARAMETER)
    if asked in known:
        return str(asked)
    labels = {request.GET.get(name) for name in _CONTEXT_PARAMETERS}
    of_context = [context.database for context in contexts() if context.label in labels]
    usual = router.db_for_write(model)
    if of_context and usual in known:
        return of_context[0]
    return usual if usual in known or not known else known[0]


def database_query(row: Model) -> dict[str, str]:
    """Return what an address needs to lead to the database of a row; nothing for the usual one."""
    alias = row._state.db
    return {PARAMETER: alias} if alias and alias != router.db_for_write(type(row)) else {}


class DatabaseFilter(SimpleListFilter):
    """By database, if the contexts have several. One of them is always chosen."""

    title = _("database")
    parameter_name = PARAMETER

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        self._shown = chosen_database(request, model_admin.model)
        known = context_databases()
        return [(alias, alias) for alias in known] if len(known) > 1 else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows unchanged; the page has read them from the chosen database."""
        return queryset

    def choices(self, changelist: ChangeList) -> Any:
        """Yield the databases; no page shows all of them at once."""
        for alias, title in self.lookup_choices:
            yield {
                "selected": alias == self._shown,
                "query_string": changelist.get_query_string({PARAMETER: alias}),
                "display": title,
            }
