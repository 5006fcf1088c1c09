"""The ways in which deliveries are handled, a module each.

| module | a transaction has | used for |
|---|---|---|
| `one_by_one` | one delivery | ``transaction="message"``, and whatever failed in another way |
| `batches` | many deliveries | ``transaction="batch"``, and translators |
| `lists` | one call with many events | list handlers |
| `after_crash` | one delivery, whose attempt was committed before | a partition without a clean end |

In every way a delivery is marked as done in the transaction of its effects (rule O5, `attempt`), and
after a failure the later deliveries of its consumer and key wait (rule O6, `failures`). Every way
may raise `Lost`, when another worker had the partition meanwhile: what was read ahead is read again.
"""

from .after_crash import AfterCrash
from .batches import handle_batches
from .lists import handle_list
from .one_by_one import OneByOne

__all__ = ["AfterCrash", "OneByOne", "handle_batches", "handle_list"]
