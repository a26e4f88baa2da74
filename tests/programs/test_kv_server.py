"""The server of docs/serving.md: values by key, and a stop that loses no request."""

from __future__ import annotations

import signal
import socket
import time
import unittest

from pairs import Case, launch, plain


class Values(Case):
    def test_values_are_set_and_got_and_a_stop_answers(self) -> None:
        def check(language: str) -> None:
            path = str(self.directory / language)
            command = launch.program(language, "kv_server", f"unix:{path}")
            with launch.start(command) as process:
                try:
                    with connected(path) as conn:
                        self.talk(conn)
                        if language == "c":
                            self.exceed(conn)
                        # The request has come when the signal does, and so it is answered.
                        plain.write_frame(conn, {"cmd": "get", "key": "k0"})
                        process.send_signal(signal.SIGTERM)
                        reply = plain.read_frame(conn)
                        self.assertEqual(reply and reply[1], b"value 0")
                        self.assertIsNone(plain.read_frame(conn))
                    self.assertEqual(process.wait(launch.SECONDS), 0)
                finally:
                    process.kill()

        self.each([(language,) for language in launch.LANGUAGES], check)

    def talk(self, conn: socket.socket) -> None:
        for number in range(3):
            ask(conn, {"cmd": "set", "key": f"k{number}"}, b"value %d" % number)
        ask(conn, {"cmd": "set", "key": "k1"}, b"")
        self.assertEqual(ask(conn, {"cmd": "get", "key": "k2"})[1], b"value 2")
        self.assertEqual(ask(conn, {"cmd": "get", "key": "k1"})[1], b"")
        for wrong, code in (
            ({"cmd": "get", "key": "x"}, "not_found"),
            ({"cmd": "get", "key": 7}, "bad_request"),
            ({"cmd": "get"}, "bad_request"),
            ({"cmd": "other"}, "unsupported"),
        ):
            self.assertEqual(ask(conn, wrong)[0]["code"], code)

    def exceed(self, conn: socket.socket) -> None:
        """Keys, values and the store have a size in C."""
        longest = {"cmd": "set", "key": "x" * 63}
        ask(conn, longest, bytes(1024))
        self.assertEqual(ask(conn, {"cmd": "get", "key": "x" * 63})[1], bytes(1024))
        self.assertEqual(ask(conn, longest, bytes(1025))[0]["code"], "no_space")
        self.assertEqual(ask(conn, {"cmd": "set", "key": "x" * 64})[0]["code"], "too_big")
        codes = [ask(conn, {"cmd": "set", "key": f"n{n}"})[0].get("code") for n in range(997)]
        self.assertEqual(codes, [None] * 996 + ["no_space"])
        self.assertEqual(ask(conn, {"cmd": "get", "key": "n995"})[0]["status"], "ok")


def connected(path: str) -> socket.socket:
    deadline = time.monotonic() + launch.SECONDS
    while True:
        conn = socket.socket(socket.AF_UNIX)
        conn.settimeout(launch.SECONDS)
        try:
            conn.connect(path)
            return conn
        except (FileNotFoundError, ConnectionRefusedError):
            conn.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def ask(conn: socket.socket, header: plain.Header, body: bytes = b"") -> tuple[plain.Header, bytes]:
    plain.write_frame(conn, header, body)
    reply = plain.read_frame(conn)
    assert reply is not None
    return reply


if __name__ == "__main__":
    unittest.main()
