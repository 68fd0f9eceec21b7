"""Calling the HTTP interface of the gateway that runs with a configuration on this machine."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from gateway.config import Config
from gateway.errors import GatewayError

_SECONDS = 30


def address(config: Config) -> str:
    """The base URL of the gateway's HTTP interface, as seen from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.http.bind, config.http.bind)  # noqa: S104 - compared, not bound
    scheme = "http" if config.http.tls.certificate is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{config.http.port}"


def opener(config: Config) -> urllib.request.OpenerDirector:
    """Opens URLs of this gateway: by no proxy, which would be asked for itself, and trusting its own certificate only.

    The name in the certificate is for those who call from elsewhere, so it is not compared.
    """
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if config.http.tls.certificate is not None:
        context = ssl.create_default_context(cafile=str(config.http.tls.certificate))
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def call(config: Config, method: str, path: str, query: Mapping[str, str] | None = None) -> Any:
    """The JSON answer to a request.

    Raises:
        GatewayError: no gateway answers there, or it refuses.
    """
    url = f"{address(config)}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
    request = urllib.request.Request(url, method=method)  # noqa: S310 - http, by construction
    if config.http.token_file is not None:
        request.add_header("Authorization", f"Bearer {config.http.token_file.read_text('ascii').strip()}")
    try:
        with opener(config).open(request, timeout=_SECONDS) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            raise GatewayError(_detail(error)) from error
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        raise GatewayError(f"{address(config)}: {reason}", hint="is the gateway running?") from error


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        document = json.load(error)
    except ValueError:
        return f"{error.code} {error.reason}"
    return str(document.get("detail") or document.get("title") or error.reason)
