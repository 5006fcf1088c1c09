"""What Django's error mails and pages hide, beside what they hide by default."""

import re

from django.views.debug import SafeExceptionReporterFilter


class HidingUrls(SafeExceptionReporterFilter):
    """Hides settings and variables of the environment that are URLs as well: they have passwords.

    Django hides what is named PASSWORD, KEY or the like, and shows CELERY_BROKER_URL.
    """

    hidden_settings = re.compile(
        f"{SafeExceptionReporterFilter.hidden_settings.pattern}|URL$|LOCATION", re.IGNORECASE
    )
