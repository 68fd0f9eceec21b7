"""One process asks another: a Unix socket for each, a JSON value a line each way.

For what is not in shared storage: a process's metrics, its in-memory caches. The folder of the sockets is the
gateway's own (mode 0700); there is no other access control.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.errors import GatewayError
from gateway.logs import get_logger

_SECONDS = 5.0
_MAX_REQUEST = 1 << 20
_SUFFIX = ".control"
_log = get_logger("workers")

Verbs = Mapping[str, Callable[[Any], Any]]
"""What can be asked: each takes a JSON value and returns one."""


class ControlServer:
    """Answers on ``folder/name.control`` until closed."""

    def __init__(self, folder: Path, name: str, verbs: Verbs) -> None:
        self._path = folder / f"{name}{_SUFFIX}"
        self._verbs = verbs
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._path.chmod(0o600)
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # closed
            with sock:
                try:
                    self._answer(sock)
                except (OSError, ValueError) as error:
                    _log.warning("control request failed", error=error)

    def _answer(self, sock: socket.socket) -> None:
        sock.settimeout(_SECONDS)
        with sock.makefile("rwb") as stream:
            request = json.loads(stream.readline(_MAX_REQUEST))
            verb = self._verbs.get(request["verb"])
            try:
                answer = {"answer": verb(request["argument"])} if verb else {"error": "unknown verb"}
            except GatewayError as error:
                answer = {"error": error.message}
            stream.write(json.dumps(answer).encode() + b"\n")


def ask(folder: Path, name: str, verb: str, argument: Any = None) -> Any:
    """Ask one process.

    Raises:
        GatewayError: it does not answer, or says that it could not.
    """
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_SECONDS)
            sock.connect(str(folder / f"{name}{_SUFFIX}"))
            with sock.makefile("rwb") as stream:
                stream.write(json.dumps({"verb": verb, "argument": argument}).encode() + b"\n")
                stream.flush()
                answer = json.loads(stream.readline())
    except (OSError, ValueError) as error:
        raise GatewayError(f"process {name} does not answer") from error
    if "error" in answer:
        raise GatewayError(f"process {name}: {answer['error']}")
    return answer["answer"]


def ask_all(folder: Path, verb: str, argument: Any = None) -> dict[str, Any]:
    """Ask every process that has a socket; one that does not answer, since it is just being replaced, is left out."""
    answers: dict[str, Any] = {}
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        name = path.name.removesuffix(_SUFFIX)
        try:
            answers[name] = ask(folder, name, verb, argument)
        except GatewayError as error:
            _log.warning("process left out", role=name, why=error.message)
    return answers
