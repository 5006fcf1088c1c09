"""Signatures of the example: one set of keys for all of its contexts, from the environment."""

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from . import environment

KEYS = "SIGNING_KEYS"
REQUIRED = "SIGNATURES_REQUIRED"

SOURCES = {"ordering": ("shipping",), "shipping": ("ordering",)}
"""Context -> the contexts whose contracts it subscribes to."""


def entries(given: dict[str, Any], labels: Iterable[str] = tuple(SOURCES)) -> dict[str, Any]:
    """Return OUTBOX_INBOX["CONTEXTS"] with signatures, if the variables give keys.

    Arguments:
        given: the entries so far, by label.
        labels: the contexts of this deployment.

    Raises:
        ImproperlyConfigured: SIGNING_KEYS is not a list of ``id:secret``.
    """
    keys = _keys()
    if not keys:
        return given
    required = environment.yes_or_no(REQUIRED, default=True)
    found = dict(given)
    for label in labels:
        found[label] = {
            **found.get(label, {}),
            "signing": {"keys": keys, "sign_with": next(iter(keys))},
            "verifying": {
                source: {"keys": keys, "required": required} for source in SOURCES[label]
            },
        }
    return found


def _keys() -> dict[str, str]:
    found = {}
    for number, word in enumerate(environment.words(KEYS), start=1):
        keyid, separator, secret = word.partition(":")
        if not (separator and keyid and secret):
            # The word is not part of the message: it may be the secret.
            raise ImproperlyConfigured(
                f"The variable {KEYS}: entry {number} is not an id and a secret, as in "
                "2026-11:…,2026-10:… (the first one signs)."
            )
        found[keyid] = secret
    return found
