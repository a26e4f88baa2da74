"""A direction of a connection, and the waits until it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Side:
    """Lets the loop watch a descriptor while a task waits for it."""

    def __init__(
        self,
        fd: int,
        add: Callable[..., object],
        remove: Callable[[int], object],
        work: Callable[[], bool] = bool,
    ) -> None:
        self._fd = fd
        self._add = add
        self._remove = remove
        # The function to call when it is ready; it returns whether there is more to do.
        self._work = work
        self._is_watched = False
        self.waiters: set[asyncio.Future[None]] = set()

    def watch(self) -> None:
        if not self._is_watched and self._fd >= 0:
            self._is_watched = True
            self._add(self._fd, self._ready)

    def stop(self) -> None:
        """Stops watching for good."""
        if self._is_watched:
            self._is_watched = False
            self._remove(self._fd)
        self._fd = -1
        self.wake()

    def wake(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _ready(self) -> None:
        has_more = self._work()
        if not has_more and not self.waiters:
            # A ready direction that no task waits for would keep the loop busy.
            self._is_watched = False
            self._remove(self._fd)
        self.wake()
