# SPDX-License-Identifier: GPL-2.0-or-later
"""
The other end of a vhost-user network device, as far as a device that nothing is
sent to needs one: it agrees to what a migration asks for.
"""

from pathlib import Path
import socket
import struct
import threading
from typing import Callable, Dict


# From QEMU's docs/interop/vhost-user.rst.
HEADER = struct.Struct('<III')
VERSION, REPLY = 1, 4
GET_FEATURES, SET_LOG_BASE, GET_VRING_BASE = 1, 6, 11
GET_PROTOCOL_FEATURES, GET_QUEUE_NUM = 15, 17
# VHOST_F_LOG_ALL, VHOST_USER_F_PROTOCOL_FEATURES, VIRTIO_F_VERSION_1
FEATURES = 1 << 26 | 1 << 30 | 1 << 32
# VHOST_USER_PROTOCOL_F_LOG_SHMFD
PROTOCOL_FEATURES = 1 << 1

# What is answered to a request with that payload; other ones want no answer.
ANSWERS: Dict[int, Callable[[bytes], bytes]] = {
    GET_FEATURES: lambda payload: struct.pack('<Q', FEATURES),
    GET_PROTOCOL_FEATURES: lambda payload: struct.pack('<Q',
                                                       PROTOCOL_FEATURES),
    GET_QUEUE_NUM: lambda payload: struct.pack('<Q', 1),
    SET_LOG_BASE: lambda payload: struct.pack('<Q', 0),
    # Nothing was taken from a ring.
    GET_VRING_BASE: lambda payload: payload[:4] + bytes(4),
}


def _answer(connection: socket.socket) -> bool:
    """One request; false if there is none any more."""
    # Files that come with it are of no use here.
    head = connection.recv(HEADER.size, socket.MSG_WAITALL)
    if len(head) < HEADER.size:
        return False
    request, _, size = HEADER.unpack(head)
    payload = connection.recv(size, socket.MSG_WAITALL) if size else b''
    if request in ANSWERS:
        answer = ANSWERS[request](payload)
        connection.sendall(HEADER.pack(request, VERSION | REPLY, len(answer))
                           + answer)
    return True


def _serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            while _answer(connection):
                pass


def serve(path: Path) -> None:
    """Serve one device at a time, as long as this program runs."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o666)
    listener.listen(1)
    threading.Thread(target=_serve, args=[listener], daemon=True).start()
