"""Callbacks: functions of the caller, called by the library. No exception crosses C."""

from __future__ import annotations

import functools
import itertools
import operator
import threading
from collections import defaultdict
from collections.abc import Callable, Generator
from typing import Any, Protocol


class Guarding(Protocol):
    """Makes functions callable by C."""

    def guarded(self, function: Callable[..., int], failed: int) -> Callable[..., Any]:
        """A wrapper for a CFUNCTYPE: if the function raises, C gets ``failed``."""


class Callbacks:
    """Makes functions callable by C during one call of the library. The `with` block around
    that call raises their exceptions."""

    def __init__(self) -> None:
        self._guards: list[Guard] = []

    def guarded(self, function: Callable[..., int], failed: int) -> Callable[..., Any]:
        """A wrapper of a function for a CFUNCTYPE: if the function raises, C gets
        ``failed``."""
        try:
            guard = unused.pop()
        except IndexError:
            guard = Guard()
        self._guards.append(guard)
        guard.function, guard.failed, guard.raised = function, failed, []
        guard.report = guard.raised.append
        kind: Callable[..., Any] = guard.kind
        return kind

    def __enter__(self) -> Callbacks:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        raised = [error for guard in self._guards for error in guard.raised]
        for guard in self._guards:
            guard.function = nothing
            # An exception on top of another one, of two signals, ends a generator.
            if not guard.raised and guard.answers.gi_frame is not None:
                unused.append(guard)
        if kind is None and raised:
            raise raised[0]


class Guard:
    """Stands between C and a function in Python.

    Python runs its signal handlers, and so raises KeyboardInterrupt, at the entry of a
    function, outside of all its `try` blocks; ctypes then drops the exception and returns any
    number at all. Only a generator is entered inside of a `try`. So ctypes is given a class,
    which keeps its arguments. To make a C number of the instance it looks up ``__index__``, a
    look-up in a dict that notes the instance, and finds what resumes the generator. All of that
    is in C. A class is slow to make and to free, so guards are used again.
    """

    def __init__(self, dead: int = 1) -> None:
        self.function: Callable[..., int] = nothing
        self.failed = 1
        self.raised: list[BaseException] = []
        self.report: Callable[[BaseException], None] = self.raised.append
        # What C gets if the generator has ended.
        self._dead = dead
        self._calls: defaultdict[Any, Any] = defaultdict()
        self.kind: Any = type(
            "Call", (Exception,), {"__index__": property(self._calls.__getitem__)}
        )
        self._begin()

    def _begin(self) -> None:
        self._calls.clear()
        self.answers: Any = self._answers()
        next(self.answers)
        resume = functools.partial(next, self.answers, self._dead)
        self._calls.default_factory = itertools.repeat(resume).__next__

    def mend(self) -> None:
        """Begins again, if that is necessary."""
        if self.answers.gi_frame is None:
            self._begin()

    def _answers(self) -> Generator[int, None, None]:
        answer, call = self.failed, None
        while True:
            try:
                while True:
                    yield answer
                    call, _ = self._calls.popitem()
                    answer = self.function(*call.args)
                    call = None
            except BaseException as error:
                if call is None and isinstance(error, GeneratorExit):
                    return  # this generator is not needed any more
                answer, call = self.failed, None
                self._calls.clear()
                self.report(error)


class Lasting:
    """Makes functions callable by C for as long as this lives: on any thread, several at once.
    ``raised`` gets their exceptions."""

    def __init__(self) -> None:
        self.raised: list[BaseException] = []
        self._guards: list[Guard] = []

    def guarded(self, function: Callable[..., int], failed: int) -> Callable[..., Any]:
        """A wrapper of a function for a CFUNCTYPE."""
        raised = self.raised.append

        def elsewhere(*arguments: Any) -> int:
            me = threading.get_ident()
            inside.add(me)
            try:
                return function(*arguments)
            except BaseException as error:
                raised(error)
                return failed
            finally:
                inside.discard(me)

        guard = Guard(failed)
        guard.function, guard.failed, guard.report = function, failed, raised
        self._guards.append(guard)
        return ByThread(elsewhere, guard.kind)

    def mend(self) -> None:
        """Makes guards usable again: an exception on top of another one, and the garbage
        collector, end their generators."""
        for guard in self._guards:
            guard.mend()


class ByThread(threading.local):
    """Passes a call on: in the main thread to a guard, elsewhere to a function. Signal handlers
    run in the main thread only, and nothing in Python runs there before the guard."""

    __call__ = property(operator.attrgetter("function"))

    def __init__(self, elsewhere: Callable[..., Any], in_main: Callable[..., Any]) -> None:
        # current_thread() would make an object for a thread of the library, and keep it.
        is_main = threading.get_ident() == threading.main_thread().ident
        self.function = in_main if is_main else elsewhere


def nothing(*_: object) -> int:
    return 0


# Threads, other than the main one, in which a lasting function is called. They may be those of
# a server, which cannot be freed in them.
inside: set[int] = set()

# Those that no call uses.
unused: list[Guard] = []
