"""The sinks that speak HTTP, each with its receiver."""

from collections.abc import Callable

from tests.support.elasticsearchreceiver import ElasticsearchReceiver
from tests.support.httpreceiver import HttpReceiver
from tests.support.lokireceiver import LokiReceiver
from tests.support.otlpreceiver import OtlpReceiver


def arrived(receiver: HttpReceiver) -> list[str]:
    """The texts that a receiver has, in its order."""
    match receiver:
        case ElasticsearchReceiver():
            return receiver.messages()
        case LokiReceiver():
            return receiver.lines()
        case OtlpReceiver():
            return receiver.bodies()
    raise TypeError


KINDS: dict[str, Callable[[], HttpReceiver]] = {
    "elasticsearch": ElasticsearchReceiver,
    "loki": LokiReceiver,
    "otlp": OtlpReceiver,
}
