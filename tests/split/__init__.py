"""A project from which billing moves out: with sites, flat pages, users and apps of its own."""
