"""A small project whose code is old or new: ROLLOUT_CODE says which, of each process."""

import os

PROJECTS = not os.environ.get("DATABASE_URL", "").startswith("mysql")
"""MariaDB and MySQL keep no read models."""

NEW = os.environ.get("ROLLOUT_CODE") == "new"
