//! What stands where in include/framefd.h. This is the table to edit; `make header` does the
//! rest, and says what it does not find.
//!
//! - A new function, constant or struct in a file that is listed here needs nothing: it goes
//!   into the section of its file, in the order of the file. Its `///` comment is its manual.
//! - A new file of src/ffi: add its path, without `.rs`, to the sources of its section.
//! - A file with things of two sections: list it plainly in one, and in the other with the
//!   names that go there, such as `"exec/calls: exec_serve exec_run*"`. A name that ends
//!   in `*` stands for all that begin so.
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
No state, and not a byte beyond the message. A conversation is better held on a connection.",
        sources: &["frame/raw", "frame/view"],
    },
    Section {
        title: "headers",
        about: "read and built, field by field",
        usage: "
  frame_header_string(view.header, \"cmd\", cmd, sizeof cmd);    the text of any header
  b = frame_builder_new();  frame_builder_int(b, \"n\", 3);  text = frame_builder_text(b, NULL);
A failure sticks in a builder, and each function takes NULL: check the text alone.",
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
timeout_ms as a parameter is poll(2)'s: 0 does not wait, -1 waits for ever, and
FRAME_DEFAULT_TIMEOUT is the connection's.",
        sources: &[
            "connection/mod",
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
        about: "the handshake, key files, rings of keys",
        usage: "
  auth_server(fd, key, len, NULL);     auth_client(fd, key, len, NULL);
  opts.flags = AUTH_PLAIN;
  frame_connection_auth_client(c, key, len, &opts);
  frame_connection_auth_server(c, ring, &opts, &who);",
        sources: &["auth"],
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
  exec_and_reply(fd, command, len, NULL, &result);          a command from anywhere else",
        sources: &["exec/options", "exec/server"],
    },
    Section {
        title: "files, client",
        about: "put, get, trees, stat, list, mkdir",
        usage: "
  struct frame_file_transfer what = FRAME_FILE_TRANSFER_INIT;
  what.name = \"notes/a\";  what.path = \"a\";
  frame_file_put(c, &what, -1, &result);
  what.flags |= FRAME_FILE_TREE;                     a directory with all that is in it
Each is an exchange on a connection: 0 as timeout_ms is FRAME_EINVAL.",
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
];

pub const APPENDIX: Section = Section {
    title: "appendix",
    about: "every error code, in words",
    usage: "
-100 and below were reported by the peer in an error reply: the connection is still usable.
The numbers never change and are never reused. frame_strerror() has a line for each.",
    sources: &[],
};

/// What stands before the contents, and behind them.
pub const CONVENTIONS: [&str; 2] = [
    "\
/* framefd: messages, proof of a key, remote commands and files over any file descriptor.
 * Made by `make header` from src/ffi; do not edit.
 *
",
    " *
 * True of every function, unless it says otherwise:
 *
 * - It returns 0 or a count, or a negative FRAME_E... code. frame_strerror() has a line for
 *   each code, frame_last_error() this thread's details in words. A code of -100 or below
 *   came from the peer in an error reply: the connection is still usable.
 * - Descriptors are borrowed. They are never closed, their flags are never changed, and
 *   nothing beyond the message is read, except by a connection. They may block or not.
 * - No call changes the process: no signal handler or mask, no SIGPIPE, no working directory,
 *   environment or locale, no global state. Nothing is printed.
 * - One deadline covers a whole call, on the monotonic clock.
 * - Options may be NULL. Their first member is their size, which ..._INIT sets:
 *       struct frame_options opts = FRAME_OPTIONS_INIT;
 *   A member that is 0 has its default. No struct has padding at its end.
 * - An output pointer may be NULL if its function says so. It is NULL after a failure.
 * - Objects are freed with the function of their own name; NULL is ignored.
 * - Threads may call everything at the same time, on different objects and descriptors. Each
 *   object and function says more if it allows more.
 * - Everything is there since version 0.1, unless it says another.
 */
",
];
