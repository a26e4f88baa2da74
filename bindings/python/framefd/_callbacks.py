"""Callbacks: functions of the caller, called by the library. No exception crosses C."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any


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
        return guard.kind

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
    which keeps its arguments; to make a C number of the instance it looks up ``__index__``,
    for which the generator is resumed. A class is slow to make and to free, so guards are
    used again.
    """

    def __init__(self) -> None:
        self.function: Callable[..., int] = nothing
        self.failed = 1
        self.raised: list[BaseException] = []
        self.answers: Any = self._answers()
        next(self.answers)
        self.kind = type("Call", (Exception,), {"__index__": property(self.answers.send)})

    def _answers(self) -> Generator[Callable[[], int], Exception, None]:
        answer, call = self.failed, None
        while True:
            try:
                call = yield answer.__index__
                answer = self.function(*call.args)
                call = None
            except BaseException as error:
                if call is None and isinstance(error, GeneratorExit):
                    return  # this generator is not needed any more
                answer, call = self.failed, None
                self.raised.append(error)


def nothing(*_: object) -> int:
    return 0


# Those that no call uses.
unused: list[Guard] = []
