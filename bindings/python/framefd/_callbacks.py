"""Callbacks: functions of the caller, called by the library. No exception crosses C."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any


class Callbacks:
    """Makes functions callable by C during one call of the library. The `with` block around
    that call raises their exceptions."""

    def __init__(self) -> None:
        self._raised: list[BaseException] = []

    def guarded(self, function: Callable[..., int], failed: int) -> Callable[..., Any]:
        """A wrapper of a function for a CFUNCTYPE: if the function raises, C gets ``failed``.

        Python runs its signal handlers, and so raises KeyboardInterrupt, at the entry of a
        function, outside of all its `try` blocks; ctypes then drops the exception and
        returns any number at all. Only a generator is entered inside of a `try`. So ctypes
        is given a class, which keeps its arguments; to make a C number of the instance it
        looks up ``__index__``, for which the generator is resumed.
        """
        answers = self._answers(function, failed)
        next(answers)
        return type("Call", (Exception,), {"__index__": property(answers.send)})

    def _answers(
        self, function: Callable[..., int], failed: int
    ) -> Generator[Callable[[], int], Exception, None]:
        answer, call = failed, None
        while True:
            try:
                call = yield answer.__index__
                answer = function(*call.args)
                call = None
            except BaseException as error:
                if call is None and isinstance(error, GeneratorExit):
                    return  # this generator is not needed any more
                answer, call = failed, None
                self._raised.append(error)

    def __enter__(self) -> Callbacks:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._raised:
            raise self._raised[0]
