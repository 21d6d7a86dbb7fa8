"""The proxy that the environment names: HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as urllib reads them."""

import base64
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from edgeagent.api.errors import PermanentError


class Proxy(NamedTuple):
    """Where it listens, and what it is shown; ``authorization`` is a header's value, or empty."""

    host: str
    port: int
    authorization: str


def proxy_for(scheme: str, host: str) -> Proxy | None:
    """The proxy for URLs of ``scheme`` at ``host``, or None; PermanentError for one that cannot be used."""
    found = getproxies()
    url = found.get(scheme) or found.get("all")
    if not url or proxy_bypass(host):
        return None
    place = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = place.port or 80
    except ValueError:
        port = 0
    if place.scheme != "http" or not place.hostname or not port:
        problem = f"the environment's proxy for {scheme} is not of the form http://[user:password@]host:port"
        raise PermanentError(problem, reason="ProxyUnusable")
    authorization = ""
    if place.username is not None:
        pair = f"{unquote(place.username)}:{unquote(place.password or '')}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Proxy(place.hostname, port, authorization)
