"""A process that runs the contexts on the database of a benchmark: python -m benchmarks.worker.

Reads from standard input one JSON document with ``databases``, and ``wake_up``; ends with SIGTERM.
"""

import json
import sys

from benchmarks import databases


def main() -> None:
    """Run until a signal comes."""
    given = json.load(sys.stdin)
    databases.configure(given["databases"], WAKE_UP=given["wake_up"])
    from django.core.management import call_command

    call_command("run_contexts")


if __name__ == "__main__":
    main()
