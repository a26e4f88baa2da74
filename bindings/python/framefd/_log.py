"""The log of a server: its lines, and the exceptions of handlers and policies."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Union

from . import _abi
from ._arguments import wrong

if TYPE_CHECKING:
    import logging

    #: A logger, or a function that gets a level of the logging module and a text.
    LogLike = Union[logging.Logger, Callable[[int, str], object]]

# The levels of the library, as those of the logging module.
DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
LEVELS = {
    _abi.FRAME_LOG_DEBUG: DEBUG,
    _abi.FRAME_LOG_INFO: INFO,
    _abi.FRAME_LOG_WARNING: WARNING,
    _abi.FRAME_LOG_ERROR: ERROR,
}

# Exceptions that are logged at once, and then in a second: clients may cause them. The library
# has the same for its lines.
BURST, A_SECOND = 50.0, 10.0


class Log:
    """Where the lines of a server go."""

    def __init__(self, log: LogLike | None) -> None:
        import logging  # a client does not need it

        self._logger = logging.getLogger("framefd") if log is None else None
        self._function: Callable[[int, str], object] | None = None
        if isinstance(log, logging.Logger):
            self._logger = log
        elif log is not None:
            if not callable(log):
                raise wrong("a log is a Logger, or a function of a level and a text", log)
            self._function = log
        self.level = _abi.FRAME_LOG_INFO if self._function else _abi.FRAME_LOG_DEBUG
        self._left, self._filled, self._left_out = BURST, time.monotonic(), 0

    def line(self, _: object, level: int, text: bytes) -> int:
        """A line of the library."""
        self.write(LEVELS.get(level, ERROR), text.decode("utf-8", "replace"))
        return 0

    def write(self, level: int, text: str, error: BaseException | None = None) -> None:
        """A line, with the traceback of an exception. What the log itself raises ends nothing:
        it goes to the logger of this package."""
        try:
            if self._logger is not None:
                self._logger.log(level, "%s", text, exc_info=error)
            elif self._function is not None:
                self._function(level, text if error is None else f"{text}\n{shown(error)}")
        except Exception as failure:
            if self._function is not None:
                self.__class__(None).write(ERROR, "the log of a server has failed", failure)

    def exception(self, what: str, error: BaseException) -> None:
        """An exception that a client does not see."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._filled) * A_SECOND, BURST)
        self._filled = now
        if self._left < 1:
            self._left_out += 1
            return
        self._left -= 1
        if self._left_out:
            count, self._left_out = self._left_out, 0
            self.write(ERROR, f"{count} exceptions before this were left out")
        self.write(ERROR, f"{what}: {type(error).__name__}", error)


def shown(error: BaseException) -> str:
    """The traceback of an exception. A client may have chosen a part of its text."""
    lines: Any = traceback.format_exception(type(error), error, error.__traceback__)
    text = "".join(lines).rstrip()
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
