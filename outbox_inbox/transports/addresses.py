"""What is wrong with the address of a server, as far as this machine can tell without connecting.

Such a mistake would otherwise be met by every message, and be seen only when messages wait.
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any


def is_host(name: str) -> bool:
    """Return whether a text can be the name or address of a host; it need not exist."""
    try:
        name.encode("idna")  # as a socket does it
    except UnicodeError:
        return False
    return bool(name) and not any(each.isspace() for each in name)


def tls_problems(
    wrap: Callable[[socket.socket], socket.socket], files: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what is wrong with the options of TLS, each as a clause.

    Arguments:
        wrap: makes a TLS socket of a socket with these options, as the library does to connect.
        files: option -> the file or directory that it names; None: none.
    """
    named = {option: path for option, path in files.items() if isinstance(path, str | os.PathLike)}
    missing = [option for option, path in named.items() if not os.access(path, os.R_OK)]
    for option in missing:
        yield f"{option} names {os.fspath(named[option])!r}, which this process cannot read"
    if missing:
        return
    with socket.socket() as unconnected:
        try:
            wrap(unconnected).close()
        except Exception as error:  # noqa: BLE001  whatever it is, connecting would meet it as well
            yield f"its options of TLS are refused ({type(error).__name__}: {error})"
