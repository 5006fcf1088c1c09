"""Real app packages, written for one test and forgotten after it."""

import importlib
import sys
from itertools import count
from pathlib import Path
from textwrap import dedent, indent

from django.apps import apps
from django.test import override_settings

_numbers = count(1)


class Packages:
    """App packages in a folder that is on the import path, and the settings they are used with.

    A package's name is a new one in each test, since Python keeps the classes of old ones alive.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.installed: list[str] = []
        self.enabled: list[override_settings] = []

    def write(self, label: str, **modules: str) -> str:
        """Write a package, with ``__`` for a dot in the names of its modules; return its name."""
        name = f"{label}_{next(_numbers)}"
        for module, text in {"__init__": "", **modules}.items():
            parts = [module] if module == "__init__" else module.split("__")
            path = (self.folder / name).joinpath(*parts).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text).replace("PACKAGE", name))
        importlib.invalidate_caches()
        self.installed.append(name)
        return name

    def context(self, label: str, declares: str = "", imports: str = "", **modules: str) -> str:
        """Write the package of a context, with an ``apps.py``; return its name."""
        config = (
            "from outbox_inbox.contexts import ContextConfig\n"
            f"{dedent(imports)}\n"
            "class Config(ContextConfig):\n"
            f"    name = 'PACKAGE'\n    label = {label!r}\n{indent(dedent(declares), '    ')}\n"
        )
        return self.write(label, apps=config, **modules)

    def install(self, *names: str, **settings: object) -> None:
        """Put the packages (all that were written, unless named) into INSTALLED_APPS."""
        base = ["django.contrib.contenttypes", "django.contrib.auth", "outbox_inbox"]
        installed = [*base, *(names or self.installed)]
        # The example's settings are not those of a project with other contexts.
        ours = {"INSTALLED_APPS": installed, "DATABASE_ROUTERS": [], "OUTBOX_INBOX": {}}
        override = override_settings(**{**ours, **settings})
        override.enable()
        self.enabled.append(override)

    def forget(self) -> None:
        """Take everything back."""
        labels = {config.label for config in apps.get_app_configs() if self._is_mine(config.name)}
        while self.enabled:
            self.enabled.pop().disable()
        for label in labels:
            apps.all_models.pop(label, None)
        apps.clear_cache()
        for name in [name for name in sys.modules if self._is_mine(name)]:
            del sys.modules[name]

    def _is_mine(self, module: str) -> bool:
        return module.partition(".")[0] in self.installed
