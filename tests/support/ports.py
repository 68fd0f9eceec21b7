"""TCP ports for tools that cannot take port 0 themselves."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on and the kernel hands to nobody else for a minute.

    A connection is opened and closed from the listening side, which leaves the port in TIME_WAIT: the kernel does not
    pick it for others then, while a server that sets SO_REUSEADDR, as DCMTK and Orthanc do, can bind it.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        port = int(listener.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listener.accept()
            accepted.close()
            client.recv(1)
    return port


def closed_port() -> int:
    """A port of 127.0.0.1 on which connections are refused."""
    return free_port()


def is_open(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
