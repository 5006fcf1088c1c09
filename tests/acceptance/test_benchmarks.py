"""The benchmarks of growth run: a figure that cannot be measured any more is noticed here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import services

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    "growth-dispatch",
    "growth-dispatch-worked-off",
    "growth-look",
    "growth-receive",
    "growth-relay",
    "growth-relay-redis",
    "growth-relay-worked-off",
    "growth-stats",
    "growth-stream",
    "growth-stream-worked-off",
}


@pytest.mark.postgres
@pytest.mark.redis
def test_the_benchmarks_of_growth_measure_every_mover():
    """With few messages, and without a look at the figures."""
    servers = ["--url", services.POSTGRES.url, "--redis", services.REDIS.url]
    command = [sys.executable, "-m", "benchmarks", "--growth", "--quick", "--format=json", *servers]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["figures"].keys() == NAMES
