"""Bootstrap tokens: who may enrol, for how long, how often, under which names.

May not know what enrolment is. The secret is shown once and never stored: the store holds the two keys that
are derived from it, encrypted, and forgets these too some time after the token has ended.
"""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgeagent.api.clock import Clock
from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.cluster.atrest import token_context
from edgeagent.cluster.store import Store
from edgeagent.wire.enrolment import MacKey, new_token

Approval = Literal["automatic", "manual"]
TokenState = Literal["Active", "Expired", "UsedUp", "Deleted", "TooManyFailures"]

MAX_TOKENS = 1_000
MAX_USES = 10_000
MAX_TTL_SECONDS = 30 * 86_400.0
MAX_FAILURES = 20
"""So many requests whose proof does not fit end a token: nobody who has its text sends one."""
KEEP_ENDED_SECONDS = 86_400.0
"""So long a token that has ended is remembered, to say why it is refused."""

_NAMES = re.compile(r"[a-z0-9?*-]{1,63}", re.ASCII)
_COLUMNS = (
    "id, request_key, answer_key, created, expires, uses, used, names, approval, replace, failed, ended"
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token. Times in seconds since 1970. ``names`` is a pattern with ``*`` and ``?``.

    ``replace``: it may take the name of a node that exists. ``ended``: what ended it before its time, if so.
    """

    id: str
    request_key: MacKey
    answer_key: MacKey
    created: float
    expires: float
    uses: int
    used: int
    names: str
    approval: Approval
    replace: bool
    failed: int
    ended: str

    def state(self, now: float) -> TokenState:
        """Whether it may be used, and if not, why."""
        if self.ended == "Deleted":
            return "Deleted"
        if self.failed >= MAX_FAILURES:
            return "TooManyFailures"
        if now >= self.expires:
            return "Expired"
        return "UsedUp" if self.used >= self.uses else "Active"

    def fits(self, node: str) -> bool:
        """Whether a node of that name may enrol with it."""
        return fnmatch.fnmatchcase(node, self.names)


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What ``edgehub token create`` is told; ``ttl`` in seconds."""

    ttl: float = 3_600.0
    uses: int = 1
    names: str = "*"
    approval: Approval = "automatic"
    replace: bool = False


class Tokens:
    """The tokens in the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def create(self, rules: TokenRules) -> tuple[Token, str]:
        """A new token and its text, which is nowhere else; PermanentError for rules that cannot be."""
        _check(rules)
        text = new_token()
        now = self._clock.now()
        token = Token(
            id=text.id,
            request_key=text.request_key,
            answer_key=text.answer_key,
            created=now,
            expires=now + rules.ttl,
            uses=rules.uses,
            used=0,
            names=rules.names,
            approval=rules.approval,
            replace=rules.replace,
            failed=0,
            ended="",
        )
        with self._store.transaction():
            self.forget_ended()
            if self._store.execute("SELECT count(*) FROM tokens")[0][0] >= MAX_TOKENS:
                raise PermanentError(
                    f"there are {MAX_TOKENS} tokens: delete some with `edgehub token delete`",
                    reason="TooManyTokens",
                )
            self._store.execute(
                f"INSERT INTO tokens ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (
                    token.id, self._encrypted(token.id, "request_key", token.request_key),
                    self._encrypted(token.id, "answer_key", token.answer_key), token.created, token.expires,
                    token.uses, token.used, token.names, token.approval, int(token.replace), token.failed,
                    token.ended,
                ),
            )  # fmt: skip
        return token, text.text

    def find(self, token_id: str) -> Token | None:
        """The token of that id, ended or not."""
        rows = self._store.execute(f"SELECT {_COLUMNS} FROM tokens WHERE id = ?", (token_id,))  # noqa: S608
        return self._token(rows[0]) if rows else None

    def all(self) -> list[Token]:
        """All that are remembered, the oldest first."""
        rows = self._store.execute(f"SELECT {_COLUMNS} FROM tokens ORDER BY created, id")  # noqa: S608
        return [self._token(row) for row in rows]

    def use(self, token: Token) -> None:
        """Use it once more. Inside a transaction; PermanentError where it has none left."""
        used = self._store.execute(
            "UPDATE tokens SET used = used + 1 WHERE id = ? AND used < uses AND ended = '' AND expires > ?"
            " RETURNING used",
            (token.id, self._clock.now()),
        )
        if not used:
            raise PermanentError("the token may be used no more", reason="UsedUp")

    def note_failure(self, token: Token) -> None:
        """A request named the token without having its secret. Bounded: an ended token is left as it is."""
        if token.state(self._clock.now()) == "Active":
            with self._store.transaction():
                self._store.execute("UPDATE tokens SET failed = failed + 1 WHERE id = ?", (token.id,))

    def delete(self, token_id: str) -> Token:
        """From now on it may not be used; PermanentError where there is none."""
        token = self.find(token_id)
        if token is None:
            raise PermanentError(
                f"there is no token {token_id[:40]!r}: `edgehub token list` shows them", reason="NotFound"
            )
        with self._store.transaction():
            self._store.execute("UPDATE tokens SET ended = 'Deleted' WHERE id = ?", (token.id,))
        return token

    def forget_ended(self) -> None:
        """Forget tokens a while after their end, and what was decided with them. Inside a transaction."""
        before = self._clock.now() - KEEP_ENDED_SECONDS
        for row in self._store.execute(
            "SELECT id FROM tokens WHERE expires < ? AND NOT EXISTS"
            " (SELECT 1 FROM enrolments WHERE token = tokens.id AND state = 'pending')",
            (before,),
        ):
            self._store.execute("DELETE FROM enrolments WHERE token = ?", row)
            self._store.execute("DELETE FROM tokens WHERE id = ?", row)

    def _encrypted(self, token: str, column: str, key: MacKey) -> bytes:
        return self._store.at_rest.encrypt(token_context(token, column), key.raw)

    def _decrypted(self, token: str, column: str, stored: bytes) -> MacKey:
        return MacKey(self._store.at_rest.decrypt(token_context(token, column), stored))

    def _token(self, row: Sequence[Any]) -> Token:
        name, request_key, answer_key, created, expires, uses, used, names, *rest = row
        approval, replace, failed, ended = rest
        return Token(
            id=name,
            request_key=self._decrypted(name, "request_key", request_key),
            answer_key=self._decrypted(name, "answer_key", answer_key),
            created=created,
            expires=expires,
            uses=uses,
            used=used,
            names=names,
            approval=approval,
            replace=bool(replace),
            failed=failed,
            ended=ended,
        )


def _check(rules: TokenRules) -> None:
    if not 1.0 <= rules.ttl <= MAX_TTL_SECONDS:
        raise InvalidObjectError("ttl", f"must be between 1s and {MAX_TTL_SECONDS / 3600:.0f}h")
    if not 1 <= rules.uses <= MAX_USES:
        raise InvalidObjectError("uses", f"must be between 1 and {MAX_USES}")
    if not _NAMES.fullmatch(rules.names):
        raise InvalidObjectError(
            "name",
            f"{rules.names[:80]!r} fits no node: expected lower-case letters, digits, '-', '*' for any"
            " of them and '?' for one",
        )
    if rules.replace and not rules.names.strip("*?"):
        raise InvalidObjectError(
            "name",
            "is required where the token may replace a node, for whoever has it could take the place of any:"
            " name the node, or what its name begins with",
        )
