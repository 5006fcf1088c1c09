"""A process that runs contexts on the database of a benchmark: python -m benchmarks.worker.

Reads one JSON document from standard input with ``databases``, ``outbox_inbox`` and the label of
the ``context``; ends with SIGTERM.
"""

import json
import sys

from benchmarks import databases


def main() -> None:
    """Run until a signal comes."""
    given = json.load(sys.stdin)
    databases.configure(given["databases"], **given["outbox_inbox"])
    from django.core.management import call_command

    call_command("run_contexts", context=[given["context"]])


if __name__ == "__main__":
    main()
