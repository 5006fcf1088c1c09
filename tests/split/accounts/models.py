"""The users of the project: AUTH_USER_MODEL."""

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A user with a desk."""

    desk = models.CharField(max_length=20, blank=True)
