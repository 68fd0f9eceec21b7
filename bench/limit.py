"""What the machine could do at most: the same bytes over a bare loopback connection, read from the same file."""

from __future__ import annotations

import os
import socket
import threading
from time import perf_counter

from bench.data import Study


def seconds(study: Study) -> float:
    """Time to read the instances' pixels and move all their bytes through a socket into memory."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver = threading.Thread(target=_receive, args=(listener, study.bytes))
        receiver.start()
        with socket.create_connection(listener.getsockname()) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            began = perf_counter()
            buffer = bytearray(1 << 20)
            for one in study.instances:
                fd = os.open(one.path, os.O_RDONLY)
                count = os.preadv(fd, [memoryview(buffer)[: one.length]], one.offset)
                os.close(fd)
                sock.sendmsg([one.head, memoryview(buffer)[:count]])
            receiver.join()
            return perf_counter() - began


def _receive(listener: socket.socket, total: int) -> None:
    sock, _ = listener.accept()
    buffer = bytearray(1 << 18)
    with sock:
        while total > 0:
            total -= sock.recv_into(buffer)
