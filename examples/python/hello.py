import socket
import threading

import framefd


def serve(end: socket.socket) -> None:
    """Serves one command."""
    with framefd.Connection(end) as client:
        client.serve_exec(client.recv_header())


# Two threads, each with one end of a socket.
ours, theirs = socket.socketpair()
threading.Thread(target=serve, args=[theirs]).start()
with framefd.Connection(ours) as server:
    print(server.run("echo hello", check=True).text, end="")
