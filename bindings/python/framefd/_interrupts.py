"""How Ctrl-C, SIGTERM and alarms reach a call that waits: the library asks the hook here.

Python runs the handlers of signals in the main thread, between two of its instructions. So
the hook has to run a few of them, and has to catch what a handler raises, since no exception
can cross C. An ordinary function cannot do that: Python runs pending handlers when it enters
the function, before the first `try` in it. A generator can: when it is resumed, it is inside
its `try` already. So ctypes is given no function in Python at all, but a chain of functions
in C, whose last link resumes a generator:

    methodcaller("ask", 1)   takes the context, which is `_hook`, and calls its `ask`
    _hook.ask                is the thread's own: not_ in other threads, and not_(1) is 0
    next(ladder, 1)          in the main thread

A handler may itself call the library, which then asks again while the first generator still
runs. So there is a ladder of generators: each step looks whether its own is running, and if
so takes the step below. A generator that has caught an exception ends, since the way back to
its `yield` would be outside of the `try`. From then on the answer is the 1, to whatever the
call still does, until :func:`kept` puts a new generator in its place.

tests/test_interrupts.py shows that an ordinary function loses exceptions, and this none.
"""

from __future__ import annotations

import ctypes
import functools
import operator
import os
import threading
from collections.abc import Generator, Iterator
from itertools import repeat
from typing import Any

from ._abi import FrameConnectionOptionsInterrupted

# A handler in a call in a handler in a call, and so on: below the last step nothing is asked.
STEPS = 4

# What handlers have raised in the call that is about to end.
raised: list[BaseException] = []


def _asked() -> Generator[int, None, None]:
    """Gives 0 while no handler raises, and then ends. From Python 3.11 on no handler runs
    between the two; before, the outer `try` is for that of a second signal."""
    global raised
    try:
        try:
            while True:
                yield 0
        except GeneratorExit:
            return
        except BaseException as error:
            raised += [error]
    except BaseException as error:
        raised += [error]


def _started() -> Generator[int, None, None]:
    generator = _asked()
    next(generator)
    return generator


# Of each step: its generator, and the steps below.
_steps: list[list[Any]] = []


def _ladder() -> Iterator[int]:
    """Its next element is what the first generator gives that is not running."""
    ladder: Iterator[int] = repeat(0)
    for _ in range(STEPS):
        step: list[Any] = [_started(), ladder]
        _steps.append(step)
        is_running = map(
            operator.attrgetter("gi_running"), map(operator.itemgetter(0), repeat(step))
        )
        ladder = map(next, map(step.__getitem__, is_running))
    return ladder


_the_ladder = _ladder()


class _Hook(threading.local):
    """What the thread asks, where a call waits."""

    ask: Any = operator.not_

    def __init__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self.ask = functools.partial(next, _the_ladder)


_hook = _Hook()
# The thread that calls fork(2) is the main thread of the child.
os.register_at_fork(after_in_child=lambda: _hook.__init__())  # type: ignore[misc]

_function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.py_object)(operator.methodcaller("ask", 1))

#: The members of an option struct that have the library ask.
MEMBERS: dict[str, Any] = {
    "interrupted": ctypes.cast(_function, FrameConnectionOptionsInterrupted),
    "context": id(_hook),
}


def kept() -> BaseException | None:
    """What a handler has raised during the call that has just ended in this thread."""
    if threading.current_thread() is not threading.main_thread():
        return None
    for step in _steps:
        step[0] = _started()
    error = raised[-1] if raised else None
    raised.clear()
    return error
