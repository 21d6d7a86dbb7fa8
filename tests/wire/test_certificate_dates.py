"""TLS for machines that may not know the date, with real handshakes: expired certificates and future ones."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edgeagent.cluster.ca import Authority
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.dial import open_socket
from edgeagent.wire.tls import NO_CHECK_TIME, ClocklessContext, client_context

YEAR = 365 * 86_400.0
NOW = datetime.datetime.now(datetime.UTC).timestamp()
AGES = {"long expired": NOW - 20 * YEAR, "expired": NOW - YEAR, "in force": NOW, "to come": NOW + 10 * YEAR}


class Site:
    """A CA, a server and a client whose certificates were made ``made`` seconds after 1970."""

    def __init__(self, folder: Path, made: float) -> None:
        folder.mkdir()
        authority, _ = Authority.create("plant", ManualClock(made))
        self.ca, self.certificate, self.key = folder / "ca", folder / "crt", folder / "key"
        self.ca.write_text(authority.certificate)
        client = authority.node("gw-1", 365)
        self.certificate.write_text(client.certificate)
        self.key.write_text(client.key)
        server = authority.server(["127.0.0.1"])
        (folder / "server").write_text(server.certificate + server.key)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(folder / "server")
        self.server.load_verify_locations(self.ca)
        self.server.verify_mode = ssl.CERT_REQUIRED
        self.server.verify_flags |= NO_CHECK_TIME

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """The port of a server that shakes hands and no more."""

        async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=self.server)
        async with server:
            yield server.sockets[0].getsockname()[1]

    def dial(self, context: ssl.SSLContext, host: str = "127.0.0.1") -> None:
        """Connect once."""

        async def connect() -> None:
            async with self.listening() as port:
                (await open_socket(host, port, context, 10)).close()

        asyncio.run(connect())

    def context(self, floor: float | None = None) -> ssl.SSLContext:
        """A client's, which goes by ``floor`` or else by the machine's clock."""
        return client_context(
            self.ca, self.certificate, self.key, floor=None if floor is None else lambda: floor
        )


@pytest.mark.parametrize("age", AGES)
def test_the_machines_clock_is_not_asked(tmp_path: Path, age: str) -> None:
    """Long expired or not begun by this machine's clock: either may be the clock's fault."""
    made = AGES[age]
    site = Site(tmp_path / "site", made)
    site.dial(site.context(floor=0.0))
    site.dial(site.context(floor=made + 10))


@pytest.mark.parametrize("age", ["long expired", "to come"])
def test_others_go_by_their_clock(tmp_path: Path, age: str) -> None:
    site = Site(tmp_path / "site", AGES[age])
    with pytest.raises(ssl.SSLCertVerificationError, match=r"expired|not yet valid"):
        site.dial(site.context())


def test_what_is_known_to_have_expired_is_refused(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", NOW)
    with pytest.raises(
        ssl.SSLError, match="the broker's certificate has expired: it was valid until 20"
    ) as e:
        site.dial(site.context(floor=NOW + 50 * YEAR))
    assert "at least" in str(e.value)
    assert not isinstance(e.value, ssl.SSLCertVerificationError)


def test_all_else_is_verified_as_ever(tmp_path: Path) -> None:
    """Another CA, another name: refused, whatever the dates."""
    site, other = Site(tmp_path / "site", NOW), Site(tmp_path / "other", NOW)
    with pytest.raises(
        ssl.SSLCertVerificationError, match=r"unable to get local issuer|self-signed|signature"
    ):
        site.dial(other.context(floor=0.0))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"IP address mismatch|Hostname mismatch"):
        site.dial(site.context(floor=0.0), host="localhost")


def test_the_context(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", NOW)
    clockless, plain = site.context(floor=0.0), site.context()
    assert isinstance(clockless, ClocklessContext)
    assert clockless.verify_flags & NO_CHECK_TIME
    assert not plain.verify_flags & NO_CHECK_TIME
    for context in (clockless, plain):
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
