"""A PostgreSQL server of the tests' own, which is set up as the machine's is not."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests import services

from .serving import Server


class PostgresServer(Server):
    """A PostgreSQL cluster with a user ``postgres`` that needs no password on this machine.

    Arguments:
        options: further settings of the server.
    """

    def __init__(self, **options: str) -> None:
        super().__init__()
        self.options = {"fsync": "off", "shared_buffers": "32MB", **options}
        self.programs = Path(services.POSTGRES_SERVER.url).parent
        self.data = self.folder / "data"
        self.user: dict[str, Any] = {}
        if os.geteuid() == 0:
            # The server refuses to be root.
            shutil.chown(self.folder, "postgres", "postgres")
            self.user = {"user": "postgres", "group": "postgres", "extra_groups": []}

    @property
    def url(self) -> str:
        """The URL of the database "postgres"."""
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def _launch(self) -> None:
        if not self.data.exists():
            self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync", str(self.data))
        given = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            **self.options,
        }
        settings = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        server = str(self.programs / "postgres")
        self._spawn(server, "-D", str(self.data), *settings, **self.user)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True, **self.user)

    def _greet(self) -> None:
        import psycopg

        with psycopg.connect(self.url.replace("postgres://", "postgresql://")):
            pass
