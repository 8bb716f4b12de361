"""Succeeds when the broker at PORT serves every partition it has, and PORT+1 listens: `kafka_ready.py PORT`.

An open port is not enough: a broker that starts again answers before it leads its partitions, and refuses reads until then.
"""

import socket
import struct
import sys

METADATA, LIST_OFFSETS = 3, 2  # api keys; version 1 of both is spoken here
LATEST = -1


class Reader:
    """Takes the values of an answer one after another."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> int:
        (value,) = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return value

    def text(self) -> bytes:
        length = self.take("h")
        self.at += max(length, 0)
        return self.data[self.at - max(length, 0) : self.at]

    def items(self) -> range:
        return range(self.take("i"))


def exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        received = connection.recv(count - len(data))
        if not received:
            sys.exit("the broker closed the connection")
        data += received
    return data


def ask(connection: socket.socket, api: int, body: bytes) -> Reader:
    request = struct.pack(">hhih", api, 1, 0, -1) + body  # version 1, correlation 0, no client id
    connection.sendall(struct.pack(">i", len(request)) + request)
    answer = Reader(exactly(connection, *struct.unpack(">i", exactly(connection, 4))))
    answer.take("i")  # correlation
    return answer


def partitions(connection: socket.socket) -> dict[bytes, list[int]]:
    """The partitions of each topic; ends the program when one has no leader."""
    answer = ask(connection, METADATA, struct.pack(">i", -1))
    brokers = answer.items()
    for _ in brokers:
        answer.take("i"), answer.text(), answer.take("i"), answer.text()  # id, host, port, rack
    if not brokers:
        sys.exit("the controller has not admitted the broker yet")
    answer.take("i")  # controller
    found: dict[bytes, list[int]] = {}
    for _ in answer.items():
        error, name, _internal = answer.take("h"), answer.text(), answer.take("b")
        found[name] = []
        for _ in answer.items():
            partition_error, partition, leader = (answer.take(form) for form in "hii")
            for _ in range(2):  # replicas, and those in sync
                for _ in answer.items():
                    answer.take("i")
            if error or partition_error or leader < 0:
                sys.exit(f"{name.decode()}-{partition} has no leader (error {error or partition_error})")
            found[name].append(partition)
    return found


def check_served(connection: socket.socket, topics: dict[bytes, list[int]]) -> None:
    """Asks for the end of every partition: only a leader that has taken up its work answers."""
    body = struct.pack(">ii", -1, len(topics))
    for name, numbers in topics.items():
        body += struct.pack(">h", len(name)) + name + struct.pack(">i", len(numbers))
        body += b"".join(struct.pack(">iq", partition, LATEST) for partition in numbers)
    answer = ask(connection, LIST_OFFSETS, body)
    for _ in answer.items():
        name = answer.text()
        for _ in answer.items():
            partition, error, _timestamp, _offset = (answer.take(form) for form in "ihqq")
            if error:
                sys.exit(f"{name.decode()}-{partition} is not served yet (error {error})")


def main() -> None:
    port = int(sys.argv[1])
    try:
        socket.create_connection(("127.0.0.1", port + 1), timeout=5).close()
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            check_served(connection, partitions(connection))
    except OSError as error:
        sys.exit(str(error))


main()
