"""The clock for waits and deadlines. It never gives a time stamp.

Tests stop the clocks of Python: freezegun replaces ``time.monotonic`` and ``time.perf_counter``, also
in modules that have imported them. A wait that is bounded by a stopped clock never ends. So the app
asks the operating system, here and nowhere else.
"""

import sys
import time

if sys.platform == "win32":

    def monotonic(_read: object = time.monotonic) -> float:
        """Return the seconds since some moment; they pass in a test that has stopped the time, too."""
        # The default of an argument is not an attribute of the module, so it is not replaced.
        return _read()  # type: ignore[operator,no-any-return]

else:

    def monotonic() -> float:
        """Return the seconds since some moment; they pass in a test that has stopped the time, too."""
        return time.clock_gettime(time.CLOCK_MONOTONIC)
