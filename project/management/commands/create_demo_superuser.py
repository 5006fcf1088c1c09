"""Create the superuser of `make run`, whose password is public."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

NAME = PASSWORD = "demo"  # noqa: S105  not a secret


class Command(BaseCommand):
    """Create or reset the superuser demo/demo and print where to log in; only with DEBUG on."""

    help = "Creates the superuser demo with the password demo, for local use: only with DEBUG on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Accept the address that the printed line names."""
        parser.add_argument("--address", default="http://127.0.0.1:8000", help="where the site is")

    def handle(self, *_args: Any, address: str, **_options: Any) -> None:
        """Create the superuser; raises CommandError when DEBUG is off."""
        if not settings.DEBUG:
            raise CommandError(
                "DEBUG is off, and the password of this superuser is public. "
                "Use createsuperuser instead."
            )
        user, _ = get_user_model().objects.get_or_create(username=NAME)
        user.is_staff = user.is_superuser = user.is_active = True
        user.set_password(PASSWORD)
        user.save()
        self.stdout.write(f"{address}/admin/   user: {NAME}   password: {PASSWORD}")
