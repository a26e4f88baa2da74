import socket
import threading

import framefd

KEY = b"at least sixteen bytes"


def serve(fd: socket.socket) -> None:
    framefd.auth_server(fd, KEY)
    framefd.exec_serve(fd, framefd.recv_header(fd))


ours, theirs = socket.socketpair()
threading.Thread(target=serve, args=[theirs]).start()
framefd.auth_client(ours, KEY)
print(framefd.run(ours, "echo hello", check=True).text, end="")
