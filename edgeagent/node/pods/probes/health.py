"""The two messages of ``grpc.health.v1.Health/Check``, as they are on the wire.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md

Written here because they are one string and one number: a Protobuf library would be megabytes for them.
"""

STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
ANSWER_LIMIT = 16 * 1024
"""Bytes of a prefixed answer that are kept."""
_PREFIX = 5


def encode_request(service: str) -> bytes:
    """``HealthCheckRequest{service}`` behind gRPC's prefix: not compressed, length."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def decode_response(data: bytes) -> str:
    """The status that a prefixed ``HealthCheckResponse`` carries, by name. Raises ValueError."""
    if len(data) < _PREFIX:
        raise ValueError("the answer holds no message")
    if data[0]:
        raise ValueError("the answer is compressed, which was not asked for")
    if int.from_bytes(data[1:_PREFIX], "big") != len(data) - _PREFIX:
        raise ValueError("the answer is not one whole message")
    status, position = 0, _PREFIX
    while position < len(data):
        tag, position = _read_varint(data, position)
        match tag & 7:
            case 0:
                value, position = _read_varint(data, position)
                status = value if tag >> 3 == 1 else status
            case 1:
                position += 8
            case 2:
                length, position = _read_varint(data, position)
                position += length
            case 5:
                position += 4
            case kind:
                raise ValueError(f"unknown wire type {kind}")
    if position != len(data):
        raise ValueError("the message is cut off")
    return STATUSES[status] if status < len(STATUSES) else str(status)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("the message is cut off")
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("a number of more than ten bytes")
