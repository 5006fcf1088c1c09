"""Which servers answer: where the tests look for them, and what they do when one does not.

TEST_POSTGRES_URL, TEST_MARIADB_URL, TEST_REDIS_URL and TEST_AMQP_URL say where; by default the
standard ports of this machine. So does TEST_MYSQL_URL, of a server that only those ask for who want
the tests to run on it. Programs are treated as servers with a path for their URL: the browser, TEST_CHROMIUM,
and the brokers that tests start for themselves to kill them, TEST_REDIS_SERVER and
TEST_RABBITMQ_SERVER, and TEST_POSTGRES_SERVER. REQUIRE_SERVICES=1 turns every test skipped for a missing server into a failure.
"""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

PATIENCE = 2  # seconds


@dataclass(frozen=True, kw_only=True)
class Service:
    """A server that tests can use.

    Fields:
        name: what it is called in a report.
        variable: the environment variable that holds its URL.
        default: the URL when the variable is not set.
        greet: connects, asks for an answer and leaves; raises when there is none.
    """

    name: str
    variable: str
    default: str
    greet: Callable[[str], None]

    @property
    def url(self) -> str:
        """The URL to use, password included."""
        return os.environ.get(self.variable) or self.default

    @property
    def shown_url(self) -> str:
        """The URL without its password, fit for a report."""
        parts = urlsplit(self.url)
        if parts.password is None:
            return self.url
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{host}"))

    @functools.cached_property
    def problem(self) -> str | None:
        """None when the server answers, else why not, in one line; asked once a process."""
        try:
            self.greet(self.url)
        except Exception as error:  # noqa: BLE001  whatever goes wrong, it does not answer
            reason = " ".join(str(error).split()) or type(error).__name__
            return f"{self.name} at {self.shown_url} ({self.variable}): {reason}"
        return None


def _greet_postgres(url: str) -> None:
    import psycopg

    with psycopg.connect(url, connect_timeout=PATIENCE) as connection:
        connection.execute("SELECT 1")


def mysql_parameters(url: str) -> dict[str, Any]:
    """Return what mysqlclient calls the parts of a URL, all but the database."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port or 3306,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
    }


def _greet_mariadb(url: str) -> None:
    _greet_either(url, mariadb=True)


def _greet_mysql(url: str) -> None:
    _greet_either(url, mariadb=False)


def _greet_either(url: str, *, mariadb: bool) -> None:
    import MySQLdb

    where = mysql_parameters(url)
    with closing(MySQLdb.connect(**where, connect_timeout=PATIENCE)) as connection:
        connection.query("SELECT 1")
        version = connection.get_server_info()
    # They answer alike, and tests of one would prove nothing about the other.
    if ("MariaDB" in version) is not mariadb:
        raise ValueError(f"it is a server of the other kind, {version}")


def _greet_redis(url: str) -> None:
    import redis

    with redis.Redis.from_url(
        url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE
    ) as client:
        client.ping()


def _greet_rabbitmq(url: str) -> None:
    import kombu

    with kombu.Connection(url, connect_timeout=PATIENCE) as connection:
        connection.connect()


def _greet_program(path: str) -> None:
    subprocess.run([path, "--version"], check=True, capture_output=True, timeout=10 * PATIENCE)


def _newest(pattern: str) -> str:
    # Debian has a folder for each version.
    found = sorted(Path("/").glob(pattern.lstrip("/")), key=lambda path: (len(str(path)), path))
    return str(found[-1]) if found else pattern


def _find_program(path: str) -> None:
    # For one that would start whatever it is asked.
    if shutil.which(path) is None:
        raise FileNotFoundError(f"no program {path}")


POSTGRES = Service(
    name="PostgreSQL",
    variable="TEST_POSTGRES_URL",
    default="postgres://postgres:postgres@127.0.0.1:5432/postgres",
    greet=_greet_postgres,
)
MARIADB = Service(
    name="MariaDB",
    variable="TEST_MARIADB_URL",
    default="mysql://root@127.0.0.1:3306/test",
    greet=_greet_mariadb,
)
MYSQL = Service(
    name="MySQL",
    variable="TEST_MYSQL_URL",
    default="mysql://root@127.0.0.1:3307/",
    greet=_greet_mysql,
)
REDIS = Service(
    name="Redis",
    variable="TEST_REDIS_URL",
    default="redis://127.0.0.1:6379/15",
    greet=_greet_redis,
)
RABBITMQ = Service(
    name="RabbitMQ",
    variable="TEST_AMQP_URL",
    default="amqp://guest:guest@127.0.0.1:5672//",
    greet=_greet_rabbitmq,
)
CHROMIUM = Service(
    name="Chromium",
    variable="TEST_CHROMIUM",
    default="/usr/bin/chromium",
    greet=_greet_program,
)
REDIS_SERVER = Service(
    name="redis-server",
    variable="TEST_REDIS_SERVER",
    default="redis-server",
    greet=_greet_program,
)
RABBITMQ_SERVER = Service(
    name="rabbitmq-server",
    variable="TEST_RABBITMQ_SERVER",
    default="/usr/lib/rabbitmq/bin/rabbitmq-server",
    greet=_find_program,
)
POSTGRES_SERVER = Service(
    name="postgres",
    variable="TEST_POSTGRES_SERVER",
    default=_newest("/usr/lib/postgresql/*/bin/postgres"),
    greet=_find_program,
)
SERVERS = REDIS_SERVER, RABBITMQ_SERVER, POSTGRES_SERVER
# By their names in TEST_DATABASE.
DATABASES = {"postgres": POSTGRES, "mariadb": MARIADB, "mysql": MYSQL}
ALL = POSTGRES, MARIADB, REDIS, RABBITMQ, CHROMIUM, *SERVERS


def redis_url(worker: str) -> str:
    """Return the URL of the Redis database for a process of pytest-xdist (gw0, gw1, ...).

    The first process uses the database of TEST_REDIS_URL, the others the next lower ones.

    Raises:
        SystemExit: there are not that many databases below.
    """
    parts = urlsplit(REDIS.url)
    number, place = int(parts.path.strip("/") or 0), int(worker.removeprefix("gw"))
    if number < place:
        raise SystemExit(
            f"{REDIS.variable} names database {number} of Redis. {place + 1} processes empty as many "
            f"databases: name {place} or a higher one, or run in one process (--in-turn)."
        )
    return urlunsplit(parts._replace(path=f"/{number - place}"))


def required() -> bool:
    """Whether a missing server is a failure."""
    return os.environ.get("REQUIRE_SERVICES", "") not in {"", "0"}


def missing() -> list[str]:
    """Return a line for each server that does not answer."""
    return [service.problem for service in ALL if service.problem]


def main(names: list[str]) -> int:
    """Print why the named servers, or all, do not answer; the exit status is 1 when one does not."""
    asked = [each for each in (*ALL, MYSQL) if each.name in names] if names else ALL
    problems = [each.problem for each in asked if each.problem]
    print("\n".join(problems) or "All of them answer.")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
