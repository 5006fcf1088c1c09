"""Commands, as an operator and a script call them."""

import re
from io import StringIO

from django.core.management import CommandError, call_command


class Result:
    """What a command printed, and how it ended."""

    def __init__(self, name, *arguments, **options):
        stdout, stderr = StringIO(), StringIO()
        self.code, self.error = 0, ""
        try:
            call_command(name, *arguments, stdout=stdout, stderr=stderr, no_color=True, **options)
        except CommandError as error:
            self.code, self.error = error.returncode, str(error)
        # The time that it took differs from machine to machine.
        self.out = re.sub(r" in [\d.]+ s \([\d,]+/s\)", "", stdout.getvalue())
        self.err = stderr.getvalue()

    @property
    def lines(self):
        """What was printed, line by line."""
        return self.out.splitlines()
