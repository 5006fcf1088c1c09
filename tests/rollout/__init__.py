"""A small project whose code is old or new: ROLLOUT_CODE says which, of each process."""

import os

NEW = os.environ.get("ROLLOUT_CODE") == "new"
