"""Prints a port P such that P plus each of the given offsets is free on 127.0.0.1: `free_ports.py 0 1 2`.

P is drawn at random, so that runs side by side differ, and stays with P+10003 below 32768, where Linux begins to hand out
ports for outgoing connections: one of those could take a port between this look and the server's start.
"""

import random
import socket
import sys


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        # As servers do: a port whose last connections are only fading out is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def main() -> None:
    offsets = [int(argument) for argument in sys.argv[1:]] or [0]
    for _ in range(1000):
        base = random.randrange(11000, 22000)
        if all(is_free(base + offset) for offset in offsets):
            print(base)
            return
    sys.exit("free_ports.py: found no free ports")


main()
