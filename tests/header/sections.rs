//! The sections of include/framefd.h and their order. Edit this table; `make header` does the
//! rest, and reports names that it cannot find.
//!
//! - A new function, constant or struct in a file that is listed here needs nothing: it goes
//!   into the section of its file, in the order of the file. Its `///` comment is its manual.
//! - A new file of src/ffi: add its path, without `.rs`, to the sources of its section.
//! - A file with things of two sections: list it plainly in one, and in the other with the
//!   names that go there, such as `"exec/calls: exec_serve exec_run*"`. A name that ends
//!   in `*` stands for all names that begin so.
//! - A new section: add it to `SECTIONS`; numbers, contents and counts follow.
//! - A struct is named for its Rust type: `FrameOptions` is `frame_options`. For another name
//!   add a line to cbindgen.toml.
//! - A struct whose first member is `size: u32` gets its `..._INIT`, unless its name ends in
//!   `_inquiry`, which the library makes.
//! - A struct that a section needs before its own section is declared there by itself.
//! - The error codes are in src/error.rs.
//!
//! `make header` writes bindings/python/framefd/_abi.py too.

/// A section of the header.
pub struct Section {
    pub title: &'static str,
    /// A few words for the contents.
    pub about: &'static str,
    /// What typical use looks like, as lines of a comment; what holds for all of its functions.
    pub usage: &'static str,
    /// Its items: files of src/ffi, in the order in which they appear.
    pub sources: &'static [&'static str],
}

pub const SECTIONS: &[Section] = &[
    Section {
        title: "basics",
        about: "versions, texts of errors, limits and times",
        usage: "
  if (frame_abi_version() != FRAME_ABI_VERSION) ...         after dlopen(3)
  fprintf(stderr, \"%s\\n\", frame_last_error());            after a code below 0",
        sources: &["codes", "boundary/options"],
    },
    Section {
        title: "one message",
        about: "sent or received on a raw descriptor",
        usage: "
  frame_send(fd, \"{\\\"cmd\\\":\\\"add\\\"}\", body, len, NULL);
  frame_recv(fd, &frame, NULL);  frame_body(frame, &len);  frame_free(frame);
These keep no state and read no byte beyond the message. For a conversation use a connection.",
        sources: &["frame/raw", "frame/view"],
    },
    Section {
        title: "headers",
        about: "read and built, field by field",
        usage: "
  frame_header_string(view.header, \"cmd\", cmd, sizeof cmd);    the text of any header
  b = frame_builder_new();  frame_builder_int(b, \"n\", 3);  text = frame_builder_text(b, NULL);
A failure sticks in a builder, and each function accepts NULL: check the text only.",
        sources: &["frame/header", "frame/builder"],
    },
    Section {
        title: "addresses",
        about: "connect, listen, accept",
        usage: "
  frame_connect(\"localhost:7000\", NULL, &c);
  fd = frame_listen(\"[::]:7000\", 0, 0);  frame_accept(fd, NULL, -1, &c);
An address is \"host:port\", \"[::1]:port\", \"[fe80::1%eth0]:port\", \"unix:/path\", \"unix:@name\"
or \"vsock:cid:port\".",
        sources: &["connection/address"],
    },
    Section {
        title: "connections",
        about: "a conversation: messages, bodies, calls",
        usage: "
  frame_connection_send(c, header, body, len, -1);
  while ((n = frame_connection_next(c, views, 64, -1)) > 0) ...
  frame_connection_call(c, \"{\\\"cmd\\\":\\\"get\\\"}\", NULL, 0, 5000, &reply);
A parameter timeout_ms is as for poll(2): 0 does not wait, -1 waits forever, and
FRAME_DEFAULT_TIMEOUT is the connection's own.",
        sources: &[
            "connection/mod",
            "connection/credentials",
            "connection/receive",
            "connection/send",
            "connection/exchange",
        ],
    },
    Section {
        title: "event loops",
        about: "bytes in, frames out: no descriptor, no clock",
        usage: "
  p = frame_decoder_reserve(d, &room);  n = read(fd, p, room);  frame_decoder_commit(d, n);
  while ((n = frame_decoder_next(d, views, 64)) > 0) ...",
        sources: &["frame/decoder"],
    },
    Section {
        title: "keys",
        about: "sealed connections, the plain handshake, key files, rings of keys",
        usage: "
  opts.key_id = \"web-1\";  opts.server_name = \"db\";
  frame_connection_auth_client(c, key, len, &opts);
  frame_connection_auth_server(c, ring, &opts, &who);    without a key_id
  auth_server(fd, key, len, NULL);                       plain, on a raw descriptor",
        sources: &["auth", "seal"],
    },
    Section {
        title: "commands, client",
        about: "run at the peer, at once or streamed",
        usage: "
  struct exec_request what = EXEC_REQUEST_INIT;   what.command = \"uname -a\";
  exec_call(c, &what, 10000, NULL, &output);      exec_output_bytes(output, EXEC_STDOUT, &len);
  exec_start(c, &what, -1);                       exec_copy(c, 0, 1, 2, -1, &result);
While a streamed command runs, exec_signal() sends it Ctrl-C.",
        sources: &["exec/request", "exec/mod", "exec/client", "exec/stream"],
    },
    Section {
        title: "commands, server",
        about: "run here, for a peer",
        usage: "
  frame_connection_recv_header(c, -1, &view, NULL);
  exec_serve(c, view.header, NULL, &result);
  exec_and_reply(fd, command, len, NULL, &result);          a command from any other source",
        sources: &["exec/options", "exec/server"],
    },
    Section {
        title: "files, client",
        about: "put, get, trees, stat, list, mkdir",
        usage: "
  struct frame_file_transfer what = FRAME_FILE_TRANSFER_INIT;
  what.name = \"notes/a\";  what.path = \"a\";
  frame_file_put(c, &what, -1, &result);
  what.flags |= FRAME_FILE_TREE;                     a directory with everything in it
Each is an exchange on a connection: a timeout_ms of 0 is FRAME_EINVAL.",
        sources: &["file/transfer", "file/query"],
    },
    Section {
        title: "files, server",
        about: "served below one directory",
        usage: "
  frame_connection_recv_header(c, -1, &view, NULL);
  frame_file_serve(c, view.header, root_fd, NULL, &result);",
        sources: &["file/server"],
    },
    Section {
        title: "datagrams",
        about: "frames and commands over UDP or Unix sockets",
        usage: "
  frame_datagram_send(fd, NULL, 0, header, body, len, NULL);
  exec_datagram_call(fd, &what, key, key_len, FRAME_DEFAULT_TIMEOUT, NULL, &output);",
        sources: &["datagram", "exec/datagram"],
    },
    Section {
        title: "serving",
        about: "a server for connections, commands, files and requests of your own",
        usage: "
  fd = frame_listen(\"127.0.0.1:7000\", 0, 0);  frame_server_new(&opts, &s);
  frame_server_listen(s, fd);  frame_server_handle(s, \"get\", get, &store, 0);
  frame_server_run(s);  frame_server_free(s);              until frame_server_stop(s)
docs/serving.md shows a whole program.",
        sources: &["serve/options", "serve/served", "serve/mod"],
    },
];

pub const APPENDIX: Section = Section {
    title: "appendix",
    about: "every error code, in words",
    usage: "
-100 and below were reported by the peer in an error reply: the connection is still usable.
The numbers never change and are never reused. frame_strerror() returns a line for each.",
    sources: &[],
};

/// The text before the contents, and after them.
pub const CONVENTIONS: [&str; 2] = [
    "\
/* framefd: messages, proof of a key, remote commands and files over any file descriptor.
 * Made by `make header` from src/ffi; do not edit.
 *
",
    " *
 * For every function, unless its comment says otherwise:
 *
 * - It returns 0 or a count, or a negative FRAME_E... code. frame_strerror() returns a line
 *   for each code, frame_last_error() the details of this thread's last failure. A code of
 *   -100 or below was received in an error reply: the connection is still usable.
 * - Descriptors are borrowed. They are never closed, their flags are never changed, and
 *   nothing beyond the message is read, except by a connection. They may block or not.
 * - No call changes the process: its signal handlers and mask, working directory,
 *   environment, locale or global state. No SIGPIPE is raised, and nothing is printed.
 * - One deadline covers a whole call, on the monotonic clock.
 * - Options may be NULL. Their first member is their size, which ..._INIT sets:
 *       struct frame_options opts = FRAME_OPTIONS_INIT;
 *   A member that is 0 has its default. No struct has padding at its end.
 * - An output parameter may be NULL only if its function says so. After a failure an output
 *   pointer is set to NULL.
 * - Each kind of object has its own ..._free(), which ignores NULL.
 * - Threads may make any calls at the same time on different objects and descriptors. An
 *   object or function that allows more says so.
 * - Everything exists since version 0.1, unless its comment names another.
 */
",
];
