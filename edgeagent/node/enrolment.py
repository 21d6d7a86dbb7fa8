"""Becoming a node with a token: keys made here, a request, and an answer that is believed only if it fits.

The connection is to a listener that lets anybody in, and nothing is asked of its certificate: what is
exchanged there proves itself (``edgeagent.wire.enrolment``). Until there is an answer, the keys lie in a
folder beside the identity, so that who is interrupted goes on with the same request where it ended.
"""

import asyncio
import random
import secrets
import shutil
from collections.abc import Callable

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError, TemporaryError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.validate import validate_label
from edgeagent.node.identity import IdentityDir
from edgeagent.node.privatefiles import write_private
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.certificates import PrivateKey, check_chain, read_bundle
from edgeagent.wire.clientid import client_id
from edgeagent.wire.enrolment import (
    NONCE_BYTES,
    EnrolmentAnswer,
    EnrolmentRequest,
    TokenText,
    decode_answer,
    encode_request,
    fingerprint,
    is_channel,
    new_channel,
)
from edgeagent.wire.join import BrokerAddress, JoinFile, check_join
from edgeagent.wire.keys import SealingKey
from edgeagent.wire.session import Message, MqttSession, SessionConfig
from edgeagent.wire.tls import unverified_context
from edgeagent.wire.topics import Topics

PATIENCE_SECONDS = 60.0
"""So long the hub may take to say anything at all."""
AGAIN_SECONDS = 10.0
"""So long it may take before it is asked again."""
PENDING_AGAIN_SECONDS = 60.0
"""The hub tells a device that waits for approval; it is asked again should it not have been there to."""
RETRY_FIRST_SECONDS = 1.0
RETRY_CEILING_SECONDS = 10.0
MAX_COMPLAINTS = 10
"""How many answers that cannot be believed are told of; there may be any number."""


class Wish(msgspec.Struct, frozen=True):
    """What the device is to become, and where to ask. ``patience`` in seconds, for the first answer."""

    cluster: str
    node: str
    token: TokenText
    broker: BrokerAddress
    patience: float = PATIENCE_SECONDS


class _PendingFile(KubernetesStruct, frozen=True):
    """What the keys beside it were made for."""

    cluster: str
    node: str
    token: str
    channel: str


class _Keys(msgspec.Struct, frozen=True):
    private_key: PrivateKey
    sealing_key: SealingKey
    channel: str


class PendingKeys:
    """The keys of an enrolment under way, in a folder of the identity's."""

    def __init__(self, files: IdentityDir) -> None:
        self.path = files.path / "pending"
        self._keys = files.keys
        self._key = self.path / "node.key"
        self._sealing = self.path / "sealing.key"
        self._file = self.path / "request.json"

    def take(self, wish: Wish) -> _Keys:
        """The keys made for this wish before, or new ones. OSError where they cannot be kept."""
        made_for = (wish.cluster, wish.node, wish.token.id)
        if (found := self._load()) is not None and found[0] == made_for:
            return found[1]
        self.forget()
        self.path.mkdir(parents=True, mode=0o700)
        self.path.parent.chmod(0o700)
        keys = _Keys(PrivateKey.generate(), SealingKey.generate(), new_channel())
        self._keys.write(self._key, keys.private_key.pem.encode())
        self._keys.write(self._sealing, keys.sealing_key.raw)
        content = _PendingFile(
            cluster=wish.cluster, node=wish.node, token=wish.token.id, channel=keys.channel
        )
        write_private(self._file, canonical_json(content))
        return keys

    def forget(self) -> None:
        """Nothing is under way any more."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _load(self) -> tuple[tuple[str, str, str], _Keys] | None:
        """None where there is nothing whole, whatever it is that is there."""
        try:
            content = decode_json(self._file.read_bytes(), _PendingFile)
            keys = _Keys(
                PrivateKey(self._keys.read(self._key)),
                SealingKey(self._keys.read(self._sealing)),
                content.channel,
            )
        except (OSError, PermanentError, ValueError):
            return None
        whole = is_channel(content.channel)
        return ((content.cluster, content.node, content.token), keys) if whole else None


async def enrol(
    files: IdentityDir, wish: Wish, *, clock: Clock, rng: random.Random, progress: Callable[[str], None]
) -> JoinFile:
    """Ask until the hub has decided; what makes this machine a node, not written yet.

    ``progress`` is called with what a person who waits should know; some of it was said by strangers.
    PermanentError where the hub refuses or is not there; InvalidObjectError for a name that cannot be. The
    keys stay in ``PendingKeys`` until the caller has written what came of them, or forgets them.
    """
    validate_label(wish.cluster, "cluster")
    validate_label(wish.node, "name")
    try:
        keys = PendingKeys(files).take(wish)
    except OSError as error:
        raise PermanentError(f"the keys cannot be kept in {files.path}: {error.strerror or error}") from None
    return await _Enrolling(wish, keys, clock, rng, progress).run()


class _Enrolling:
    def __init__(
        self, wish: Wish, keys: _Keys, clock: Clock, rng: random.Random, progress: Callable[[str], None]
    ) -> None:
        self._wish = wish
        self._keys = keys
        self._clock = clock
        self._rng = rng
        self._progress = progress
        self._topics = Topics(wish.cluster)
        request = EnrolmentRequest(
            cluster=wish.cluster,
            node=wish.node,
            token=wish.token.id,
            channel=keys.channel,
            csr=keys.private_key.request(wish.node),
            sealing_key=keys.sealing_key.public,
            client_id=client_id(wish.cluster, wish.node, keys.sealing_key.raw),
            nonce=secrets.token_bytes(NONCE_BYTES),
        )
        self._asked = encode_request(request, wish.token.request_key, keys.private_key)
        self._connected = asyncio.Event()
        self._was_connected = False
        self._problem = ""
        self._answered = asyncio.Event()
        self._pending = False
        self._complaints = 0
        self._outcome: asyncio.Future[JoinFile] = asyncio.get_running_loop().create_future()

    async def run(self) -> JoinFile:
        broker = self._wish.broker
        session = MqttSession(
            SessionConfig(
                addresses=[broker],
                client_id=self._keys.channel,
                tls=unverified_context() if broker.tls else None,
                reconnect_first=RETRY_FIRST_SECONDS,
                reconnect_ceiling=RETRY_CEILING_SECONDS,
            ),
            clock=self._clock,
            rng=self._rng,
            on_message=self._message,
            on_connect=lambda _: self._accepted(),
            on_disconnect=self._lost,
        )
        tasks = [asyncio.create_task(one) for one in (session.run(), self._ask(session), self._give_up())]
        for task in tasks:
            task.add_done_callback(self._ended)
        try:
            return await self._outcome
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """None of the tasks ends by itself, but for a bug."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._outcome.done():
            self._outcome.set_exception(error)

    def _accepted(self) -> None:
        self._was_connected = True
        self._problem = ""
        self._connected.set()

    def _lost(self, reason: str) -> None:
        if reason != self._problem and reason != "stopped":
            self._problem = reason
            self._progress(f"no connection to the broker, trying again: {reason}")

    async def _ask(self, session: MqttSession) -> None:
        """Ask on each connection, and again every now and then while there is no decision."""
        await self._connected.wait()
        while True:
            self._connected.clear()
            try:
                await session.subscribe([self._topics.enrolment_answer(self._keys.channel)])
                await session.publish(self._topics.enrolment_request(self._keys.channel), self._asked)
            except TemporaryError as error:
                if error.reason != "Disconnected":
                    self._complain(f"the broker does not take the request yet: {error}")
            except EdgeAgentError as error:
                self._complain(f"the broker does not take the request: {error}")
            seconds = PENDING_AGAIN_SECONDS if self._pending else AGAIN_SECONDS
            await self._happens(self._connected, seconds * self._rng.uniform(0.8, 1.2))

    async def _give_up(self) -> None:
        """End where no hub has said anything for long."""
        if not await self._happens(self._answered, self._wish.patience):
            self._fail(PermanentError(self._why_nothing(), reason="NoAnswer"))

    async def _happens(self, event: asyncio.Event, seconds: float) -> bool:
        """Whether it happens within ``seconds``."""
        waiting: list[asyncio.Task[object]] = [
            asyncio.create_task(event.wait()),
            asyncio.create_task(self._clock.sleep(seconds)),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return event.is_set()
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    def _why_nothing(self) -> str:
        where = f"{self._wish.broker.host}:{self._wish.broker.port}"
        if not self._was_connected:
            problem = self._problem.removeprefix(f"{where}: ") or "no answer"
            return (
                f"{where} cannot be reached: {problem}. It must be the broker's listener for enrolment, as"
                " `edgehub token create` prints it, and this machine must get there"
            )
        return (
            f"the broker at {where} is there, but no hub of cluster {self._wish.cluster!r} answers:"
            " is that the cluster's name, and does `edgehub run` run?"
        )

    def _message(self, message: Message) -> None:
        if message.topic != self._topics.enrolment_answer(self._keys.channel) or self._outcome.done():
            return
        try:
            answer, authentic = decode_answer(message.payload, self._asked, self._wish.token.answer_key)
            if answer.state == "approved":
                self._outcome.set_result(_accept(answer, self._keys, self._wish.broker))
                return
        except EdgeAgentError as error:
            # Whoever owns the broker can send anything; the hub's own answer may still come.
            self._complain(f"an answer that cannot be believed was passed over: {error}")
            return
        self._answered.set()
        if answer.state == "denied":
            words = answer.message or answer.reason
            doubt = "" if authentic else " (nobody vouches for this answer)"
            self._fail(PermanentError(f"the hub refuses: {words}{doubt}", reason=answer.reason))
        elif not self._pending:
            self._pending = True
            self._progress(f"the hub has the request; {answer.message or 'it waits for approval'}")
            self._progress(f"this device's key: {fingerprint(self._keys.private_key.public)}")

    def _complain(self, words: str) -> None:
        self._complaints += 1
        if self._complaints <= MAX_COMPLAINTS:
            self._progress(words)

    def _fail(self, error: PermanentError) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(error)


def _accept(answer: EnrolmentAnswer, keys: _Keys, listener: BrokerAddress) -> JoinFile:
    """The identity, once the answer is shown to be about this device's keys; PermanentError where it is not.

    The clock is not asked: a board that enrols may know no date.
    """
    if answer.trust is None:
        raise InvalidObjectError("trust", "required field is missing")
    own, *between = read_bundle(answer.certificate)
    if not own.fits(keys.private_key) or own.common_name != answer.node:
        raise PermanentError("the certificate is not for this device's key and name", reason="BadCertificate")
    check_chain(own, answer.ca, now=(own.not_before + own.not_after) / 2, between=between)
    join = JoinFile(
        cluster=answer.cluster,
        node=answer.node,
        brokers=answer.brokers,
        ca=answer.ca,
        certificate=answer.certificate,
        private_key=keys.private_key.pem,
        trust=answer.trust,
        sealing_key=keys.sealing_key.raw,
        enrolment=[listener],
    )
    return check_join(join)
