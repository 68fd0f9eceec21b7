"""What the machine could do at most, with the same bytes over a bare loopback connection, and on the same disk."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from pathlib import Path
from time import perf_counter

from bench.data import Study

_ANSWER = b"\0"


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


def synced_seconds(study: Study, folder: Path) -> float:
    """Time to move the instances' bytes into a new file each, synced before the sender goes on with the next.

    What a store that survives a power cut cannot do without: no protocol, no index, no name in a file-set's folders.

    Args:
        folder: on the archives' disk; what is written stays there.
    """
    pixels = {one.path: Path(one.path).read_bytes() for one in study.instances}
    lengths = [len(one.head) + one.length for one in study.instances]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver = threading.Thread(target=_keep, args=(listener, lengths, Path(tempfile.mkdtemp(dir=folder))))
        receiver.start()
        with socket.create_connection(listener.getsockname()) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            began = perf_counter()
            for one in study.instances:
                sock.sendmsg([one.head, memoryview(pixels[one.path])[one.offset : one.offset + one.length]])
                assert sock.recv(1) == _ANSWER
            took = perf_counter() - began
        receiver.join()
    return took


def _keep(listener: socket.socket, lengths: list[int], folder: Path) -> None:
    sock, _ = listener.accept()
    buffer = memoryview(bytearray(1 << 18))
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, length in enumerate(lengths):
            fd = os.open(folder / str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            left = length
            while left > 0:
                count = sock.recv_into(buffer[: min(left, len(buffer))])
                assert count, "connection closed in the middle of an instance"
                os.write(fd, buffer[:count])
                left -= count
            os.fsync(fd)
            os.close(fd)
            sock.sendall(_ANSWER)
