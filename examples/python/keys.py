"""Keys of the example programs: which options go together, and both ends of the handshake."""

from __future__ import annotations

import os
import re
import signal
import threading
from typing import TYPE_CHECKING

import common
import framefd

if TYPE_CHECKING:
    from common import Arguments

SEAL_KEY = 32  # bytes
NAME = re.compile(r"[A-Za-z0-9._-]{0,64}\Z")

# ---- the command line


def check(arguments: Arguments, *, server: bool) -> framefd.Key | None:
    """The key of ``--key-file``. Fails if options for keys do not go together."""
    seal, path = arguments.has("seal"), arguments.option("key-file")
    key = framefd.load_key(path) if arguments.has("key-file") else None
    name, key_id = arguments.option("name"), arguments.option("id")
    alone = next((one for one in ("keys", "id", "name") if arguments.has(one)), None)
    if alone and not seal:
        raise common.Mistake(f"--{alone} needs --seal, see --help")
    if seal and arguments.has("plain"):
        raise common.Mistake("--seal and --plain do not go together, see --help")
    if seal and arguments.option("wire", "frame") != "frame":
        raise common.Mistake("--seal needs the frame wire, see --help")
    if arguments.has("keys") and key is not None:
        raise common.Mistake("--keys and --key-file do not go together, see --help")
    if seal and not arguments.has("keys") and key is None:
        raise common.Mistake(f"--seal needs --key-file{' or --keys' if server else ''}, see --help")
    if not NAME.match(name):
        raise common.Mistake(f"--name {name} is not 0 to 64 of A-Z a-z 0-9 . _ -")
    if arguments.has("id") and (key_id[:1] in ("", ".") or not NAME.match(key_id)):
        said = "is not 1 to 64 of A-Z a-z 0-9 . _ - without a dot at the start"
        raise common.Mistake(f"--id {key_id} {said}")
    if seal and key is not None:
        check_length(path, key)
    return key


def check_length(path: str, key: framefd.Key) -> None:
    if len(key) < SEAL_KEY:
        needs = f"which needs {SEAL_KEY} random ones"
        raise common.Mistake(f"{path}: {len(key)} bytes are too few for --seal, {needs}")


# ---- a client


def prove_to(connection: framefd.Connection, arguments: Arguments) -> None:
    """The handshake of a client, if it has a key."""
    if arguments.key is None:
        return
    seal = arguments.has("seal")
    key_id, name = arguments.option("id") or None, arguments.option("name") or None
    try:
        connection.auth_client(arguments.key, key_id=key_id, name=name, plain=not seal)
    except framefd.FrameError as error:
        is_silent = isinstance(error, (framefd.FrameTimeoutError, framefd.ClosedError))
        hint = "" if seal or not is_silent else " (a sealed server needs --seal)"
        raise common.Mistake(common.text_of(error) + hint) from None


# ---- a server


class Keys:
    """The keys of a server, which SIGHUP reads again."""

    def __init__(self, arguments: Arguments) -> None:
        self._is_directory = arguments.has("keys")
        self._path = arguments.option("keys" if self._is_directory else "key-file")
        self._seal = arguments.has("seal")
        self.name = arguments.option("name") or None
        self.ring: framefd.Keyring | None = None
        if self._is_directory or arguments.has("key-file"):
            # A signal that comes now waits for the thread.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
            self.ring = framefd.Keyring()
            self._load(self.ring)
            threading.Thread(target=self._load_again, args=(self.ring,), daemon=True).start()

    def _load(self, ring: framefd.Keyring) -> None:
        """Puts the keys into the ring, all or none."""
        if self._seal:
            for path in self._files():
                try:
                    key = framefd.load_key(path)
                except framefd.FrameError:
                    continue  # what is no key is reported by the ring
                check_length(path, key)
        ring.load(self._path)

    def _files(self) -> list[str]:
        if not self._is_directory:
            return [self._path]
        try:
            names = os.listdir(self._path)
        except OSError as error:
            raise common.Mistake(f"{self._path}: {error.strerror}") from None
        return [f"{self._path}/{name}" for name in names if not name.startswith(".")]

    def _load_again(self, ring: framefd.Keyring) -> None:
        while signal.sigwait({signal.SIGHUP}):
            try:
                self._load(ring)
            except (OSError, common.Mistake) as error:
                common.warn(f"the keys stay as they are: {common.text_of(error)}")
            else:
                common.warn("the keys were read again")

    def proved_by(self, connection: framefd.Connection) -> bool:
        """Whether a client may be served on a wire without frames, which knows the plain handshake
        only."""
        if self.ring is None:
            return True
        try:
            connection.auth_server(self.ring, plain=True)
        except framefd.FrameError as error:
            log_client(connection, None, f"refused: {common.text_of(error)}")
            return False
        return True


def log_client(
    connection: framefd.Connection | framefd.aio.Connection, key_id: str | None, what: str
) -> None:
    """A line about a client, as the library's server has them."""
    key = f" ({key_id})" if key_id else ""
    common.warn(f"{connection.peer or 'a client'}{key}: {what}")
