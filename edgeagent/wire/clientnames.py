"""Names in clients' certificates, and who is let in by them: one rule for the endpoints of node and hub."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import msgspec

ClientName = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f*]+\*?$", max_length=253)]
"""A name in a client's certificate; with ``*`` at its end all that begin so."""
AllowedClients = Annotated[list[ClientName], msgspec.Meta(min_length=1, max_length=100)]

OPERATORS = "user:*"
"""The common names of operators' certificates (``edgeagent.wire.authority``), which no node can have."""


def names_of(certificate: Any) -> Sequence[str]:
    """Common names and names in subjectAltName, of a certificate as ``getpeercert`` gives it."""

    def found() -> Iterator[str]:
        for part in certificate.get("subject", ()):
            yield from (value for name, value in part if name == "commonName")
        yield from (value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "URI"))

    return list(found())


def is_allowed(certificate: Any, allowed: Iterable[str]) -> bool:
    """Whether a certificate, as ``getpeercert`` gives it, has a name that one of ``allowed`` stands for."""
    names = names_of(certificate)
    return any(
        name == one or (one.endswith("*") and name.startswith(one[:-1])) for one in allowed for name in names
    )
