"""A real server on port 0 for each test that asks for one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from gateway.web.app import create_app
from gateway.web.connections import Bounds
from gateway.web.server import WebServer, listen

Serve = Callable[..., httpx.Client]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def serve(checks: Any = None, *, bounds: Bounds | None = None, **values: Any) -> httpx.Client:
            server = WebServer(create_app(checks or {}, **values), listen("127.0.0.1", 0), bounds)
            server.start()
            stack.callback(server.stop)
            url = f"http://127.0.0.1:{server.port}"
            return stack.enter_context(httpx.Client(base_url=url, trust_env=False, timeout=20))

        yield serve
