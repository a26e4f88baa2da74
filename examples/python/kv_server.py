"""A server for requests of its own: set and get values by key. SIGTERM stops it, and loses none."""

import sys

import framefd

server, store = framefd.Server(), dict[str, bytes]()


def key_of(request: framefd.ServerRequest) -> str:
    key = request.header.get("key")
    if not isinstance(key, str):
        raise framefd.MalformedError("key is a text")
    return key


@server.command("set")
def put(request: framefd.ServerRequest) -> None:
    store[key_of(request)] = request.body


@server.command("get")
def get(request: framefd.ServerRequest) -> bytes:
    if key_of(request) not in store:
        raise framefd.NotFoundError("there is no such value")
    return store[key_of(request)]


server.listen(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7000")
server.run()
