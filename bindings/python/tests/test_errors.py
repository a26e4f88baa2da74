"""Each code of the library becomes an exception of one class."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import socket
import subprocess
import threading
import unittest

import support

import framefd
from framefd import ErrorCode, _abi, _errors

BUILTINS = {
    ErrorCode.CLOSED: ConnectionError,
    ErrorCode.BROKEN: ConnectionError,
    ErrorCode.ABORTED: ConnectionAbortedError,
    ErrorCode.FORKED: ConnectionError,
    ErrorCode.TRUNCATED: ConnectionResetError,
    ErrorCode.TIMEDOUT: TimeoutError,
    ErrorCode.STALLED: TimeoutError,
    ErrorCode.REMOTE_TIMED_OUT: TimeoutError,
    ErrorCode.BADLENGTH: ValueError,
    ErrorCode.TOOBIG: ValueError,
    ErrorCode.BADJSON: ValueError,
    ErrorCode.BADFIELD: ValueError,
    ErrorCode.MISSING: ValueError,
    ErrorCode.BADREPLY: ValueError,
    ErrorCode.REMOTE_BAD_REQUEST: ValueError,
    ErrorCode.REMOTE_TOO_BIG: ValueError,
    ErrorCode.INVAL: ValueError,
    ErrorCode.KEY: ValueError,
    ErrorCode.PATH: ValueError,
    ErrorCode.AUTH: PermissionError,
    ErrorCode.ACCES: PermissionError,
    ErrorCode.REMOTE_DENIED: PermissionError,
    ErrorCode.EXIST: FileExistsError,
    ErrorCode.REMOTE_EXISTS: FileExistsError,
    ErrorCode.NOENT: FileNotFoundError,
    ErrorCode.REMOTE_NOT_FOUND: FileNotFoundError,
    ErrorCode.NOMEM: MemoryError,
    ErrorCode.STATE: RuntimeError,
    ErrorCode.PANIC: RuntimeError,
}


# The errno with which the system raises them.
ERRNO: dict[type[Exception], int] = {
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    PermissionError: errno.EACCES,
    TimeoutError: errno.ETIMEDOUT,
}


class Classes(unittest.TestCase):
    def test_every_code_has_a_class_with_the_fitting_builtin(self) -> None:
        for code in ErrorCode:
            with self.subTest(code.name):
                self.assertIn(code, _errors.CLASSES)
                error = _errors.make(code, "details")
                self.assertIsInstance(error, framefd.FrameError)
                self.assertIsInstance(error, BUILTINS.get(code, OSError))
                self.assertEqual((error.code, str(error)), (code, "details"))
                self.assertEqual(error.remote, code <= -100)
                fitting = ERRNO.get(BUILTINS.get(code, OSError))
                if code in (ErrorCode.NOSPC, ErrorCode.REMOTE_NO_SPACE):
                    fitting = errno.ENOSPC
                if code == ErrorCode.AUTH:
                    fitting = None
                self.assertEqual(error.errno, fitting)

    def test_a_program_raises_one_with_its_text(self) -> None:
        class Own(framefd.NotFoundError):
            pass

        for kind, code in (
            (framefd.NotFoundError, ErrorCode.NOENT),
            (framefd.MalformedError, ErrorCode.BADFIELD),
            (framefd.BusyError, ErrorCode.BUSY),
            (framefd.FrameError, 0),
            (Own, ErrorCode.NOENT),
        ):
            error = kind("no such user")
            self.assertEqual((error.code, str(error)), (code, "no such user"))
            self.assertFalse(error.remote)
            self.assertEqual(error.errno, errno.ENOENT if code == ErrorCode.NOENT else None)
            again = pickle.loads(pickle.dumps(framefd.NotFoundError("x")))
            self.assertEqual((again.code, str(again)), (ErrorCode.NOENT, "x"))

    def test_builtins_catch_what_is_theirs_and_no_more(self) -> None:
        for code in ErrorCode:
            expected = BUILTINS.get(code, OSError)
            for kind in set(BUILTINS.values()):
                with self.subTest(code.name, kind=kind.__name__):
                    caught = isinstance(_errors.make(code, ""), kind)
                    self.assertEqual(caught, issubclass(expected, kind))

    def test_a_code_of_a_newer_library_is_a_frame_error(self) -> None:
        error = _errors.make(-77, "new")
        self.assertIs(type(error), framefd.FrameError)
        self.assertEqual((error.code, error.remote), (-77, False))

    def test_a_lost_peer_is_told_from_other_system_errors(self) -> None:
        refused = _errors.make(ErrorCode.IO, "", errno.ECONNREFUSED)
        self.assertIsInstance(refused, ConnectionRefusedError)
        for number in (errno.EPIPE, errno.ECONNRESET):
            gone = _errors.make(ErrorCode.IO, "", number)
            self.assertIsInstance(gone, ConnectionError)
            self.assertIsInstance(gone, framefd.SystemCallError)
        other = _errors.make(ErrorCode.IO, "", errno.EISDIR)
        self.assertNotIsInstance(other, ConnectionError)
        self.assertEqual(other.errno, errno.EISDIR)

    def test_exceptions_survive_pickle_and_copy(self) -> None:
        for code in ErrorCode:
            error = _errors.make(code, "details", errno.EPIPE)
            for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
                self.assertIs(type(again), type(error))
                self.assertEqual((again.code, again.errno, str(again)), (code, 32, "details"))

    def test_command_errors_are_subprocess_errors(self) -> None:
        raw = _abi.ExecResult(exit_code=3, flags=_abi.EXEC_RESULT_TIMED_OUT, charset=b"UTF-8")
        done = framefd.CompletedCommand("false", b"out", b"err", raw)
        failed = framefd.CalledProcessError(done, "failed")
        self.assertIsInstance(failed, subprocess.CalledProcessError)
        late = framefd.CommandTimeout(done, "late", 2.5)
        self.assertIsInstance(late, subprocess.TimeoutExpired)
        self.assertIsInstance(late, TimeoutError)
        self.assertEqual((failed.returncode, failed.cmd, late.timeout), (3, "false", 2.5))
        for error in (failed, late):
            again = pickle.loads(pickle.dumps(error))
            self.assertIs(type(again), type(error))
            self.assertEqual(
                (again.output, again.stdout, again.stderr), (b"out", b"out", b"err")
            )
            self.assertEqual((again.code, str(again)), (0, str(error)))
        self.assertEqual(pickle.loads(pickle.dumps(late)).timeout, 2.5)


class Details(unittest.TestCase):
    def test_errno_is_kept_and_does_not_linger(self) -> None:
        with support.stream() as (ours, theirs):
            theirs.close()
            with self.assertRaises(framefd.DisconnectedError) as gone:
                framefd.send(ours, {})
            self.assertEqual(gone.exception.errno, errno.EPIPE)
            with self.assertRaises(framefd.ClosedError) as closed:
                framefd.recv(ours)
            self.assertIsNone(closed.exception.errno)
        with self.assertRaises(framefd.BadKeyError) as short:
            framefd.Key(b"short")
        self.assertIsNone(short.exception.errno)

    def test_the_errno_of_a_wait_is_not_that_of_what_follows(self) -> None:
        for data, kind in (
            (b"\xff\xff\xff\x7f", framefd.TooBigError),
            (b"\xff\xff\xff\xff", framefd.MalformedError),
            (b"\2\0\0\0[]", framefd.MalformedError),
        ):
            for receive in (framefd.recv, lambda sock: framefd.Connection(sock).recv()):
                with support.stream() as (ours, theirs):
                    late = threading.Timer(0.02, theirs.send, (data,))
                    late.start()
                    with self.assertRaises(kind) as caught:
                        receive(ours)
                    self.assertIsNone(caught.exception.errno)
                    late.join()

    def test_the_message_has_the_details_of_this_thread(self) -> None:
        messages: dict[int, str] = {}
        start = threading.Barrier(4)

        def fail(length: int) -> None:
            start.wait()
            for _ in range(200):
                try:
                    framefd.Key(b"x" * length)
                except framefd.BadKeyError as error:
                    messages[length] = str(error)

        threads = [threading.Thread(target=fail, args=[n]) for n in (1, 2, 2000, 3000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(messages), [1, 2, 2000, 3000])
        for length, message in messages.items():
            self.assertIn(f"{length:,}" if f"{length:,}" in message else str(length), message)

    def test_a_closed_or_impossible_descriptor(self) -> None:
        ended = socket.socket()
        ended.close()
        read, write = os.pipe()
        os.close(read)
        os.close(write)
        for fd in (ended, -1, write):
            with self.assertRaises(framefd.BadDescriptorError):
                framefd.send(fd, {})
        for number in (2**31, 2**32 + 1, -(2**40)):
            with self.assertRaises(ValueError):
                framefd.send(number, {})
        with self.assertRaises(TypeError):
            framefd.send("no descriptor", {})  # type: ignore[arg-type]


if __name__ == "__main__":
    unittest.main()
