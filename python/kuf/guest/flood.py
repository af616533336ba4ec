# SPDX-License-Identifier: GPL-2.0-or-later
"""
A flood of datagrams that a guest did not ask for.
"""

import socket
import threading
import time
from typing import List, Tuple


# Nobody listens there.
DISCARD_PORT = 9
# So many at a time, and the pause after them, in seconds.  The emulated host
# has other things to do, too.
BURST = 20
PAUSE = 0.02

Address = Tuple[str, int]


class Flood:
    """It lasts until it is closed."""

    def __init__(self, targets: List[Address]):
        """
        @param targets: where each datagram goes to; can be for a broadcast
        """
        self.sent = 0
        self.over = False
        self.sockets: List[Tuple[socket.socket, Address]] = []
        for target in targets:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setblocking(False)
            self.sockets.append((sock, target))
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        """Send them; one that can't be sent is as one that is lost."""
        data = bytes(range(256)) * 4
        while not self.over:
            for _ in range(BURST):
                for sock, target in self.sockets:
                    try:
                        sock.sendto(data, target)
                        self.sent += 1
                    except OSError:
                        pass
            time.sleep(PAUSE)

    def close(self) -> None:
        """No more of them."""
        self.over = True
        self.thread.join()
        for sock, _ in self.sockets:
            sock.close()
