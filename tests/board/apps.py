"""The board: its tables, which are always there, and the context, which its tests install instead."""

from django.apps import AppConfig

from outbox_inbox.contexts import ContextConfig


class Tables(AppConfig):
    """The app without the context, which other tests would meet everywhere."""

    default = True
    name = "tests.board"
    label = "board"


class BoardConfig(ContextConfig):
    """A context without contracts."""

    default = False
    name = "tests.board"
    label = "board"
