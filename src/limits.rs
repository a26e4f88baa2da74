//! Every default limit, each with the reason for its value. docs/embedding.md lists them for
//! readers.

use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Header text: as Redis bounds an inline request; OpenSSH bounds a packet at 256 KiB.
pub const MAX_HEADER: u64 = 64 * KIB;
/// What a header limit can be raised to.
pub const MAX_HEADER_HARD: u64 = 16 * MIB;
/// Levels of nesting in a header.
pub const MAX_DEPTH: u32 = 32;
/// What the nesting limit can be raised to: where `serde_json` stops.
pub const MAX_DEPTH_HARD: u32 = 127;
/// A body received into memory: tokio's codec takes 8 MiB, gRPC 4 MiB, nng 1 GiB.
/// A body that is streamed has no limit.
pub const MAX_BODY: u64 = 64 * MIB;
/// First step of the buffer of a call whose size the other end declared; it grows as bytes
/// arrive, so that a declared size alone costs nothing (CVE-2024-43410 in russh). It is
/// address space, and memory only where bytes were written to it; with less, a body of
/// megabytes is read in more pieces, and takes a tenth longer. A connection, of which there may
/// be thousands, begins with less, unless it has had such a body before.
pub const FIRST_STEP: usize = 4 * 1024 * 1024;
/// One step of what is dropped or gathered from small pieces.
pub const GROW_STEP: usize = 64 * 1024;
/// What a connection or a decoder asks for at first: little, for thousands of quiet connections.
pub const READ_AHEAD_MIN: usize = 8 * 1024;
/// What it asks for if that much comes again and again: twice what a connection gathers, so
/// that small frames come by the hundred.
pub const READ_AHEAD_MAX: usize = 128 * 1024;
/// The most memory that an empty buffer keeps for the next message.
pub const BUFFER_KEPT: usize = 2 * READ_AHEAD_MAX;
/// What a connection gathers before it writes.
pub const WRITE_BEHIND: usize = 64 * 1024;
/// What a connection takes in while a send waits for the peer to read.
pub const TAKEN_IN: usize = 64 * 1024 * 1024;
/// What a connection accepts to be written later: half of what it takes in.
pub const MAX_QUEUE: u64 = 32 * MIB;
/// What is drained from a peer before a close: more is not a reply that was on its way.
pub const LINGER: u64 = 256 * KIB;
/// One step of a body that is copied from descriptor to descriptor.
pub const COPY_STEP: usize = 1024 * 1024;

/// Command text.
pub const MAX_COMMAND: u64 = 64 * KIB;
/// The kernel's MAX_ARG_STRLEN (32 pages) less the final NUL: execve(2) fails above it.
pub const MAX_COMMAND_HARD: u64 = 131_071;
/// Output kept of each of a command's streams, as in qemu-guest-agent.
pub const MAX_OUTPUT: u64 = 16 * MIB;
/// From SIGTERM to SIGKILL for a command that ran out of time.
pub const TERM_GRACE: Duration = Duration::from_secs(2);
/// From end-of-stream from the client to the end of its command.
pub const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// How long a pipe is read on after its command exited, while a grandchild holds it
/// (CPython's subprocess waits for ever there).
pub const DRAIN_GRACE: Duration = Duration::from_millis(500);
/// A reply's way to a client that reads slowly or not at all.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// A file's content on its way, without a byte.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long what is left of a cut transfer is kept for another try: over a night and the
/// next morning.
pub const PARTIAL_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Connecting, with every address that a name has: five SYNs of TCP (after 0, 1, 3, 7 and
/// 15 s), and shorter than the kernel's own two minutes.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that wait to be accepted: net.core.somaxconn since Linux 5.4, which caps it.
pub const LISTEN_BACKLOG: i32 = 4096;

/// The authentication handshake.
pub const AUTH_TIMEOUT: Duration = Duration::from_secs(10);
/// What the handshake's deadline can be raised to: rsync caps its daemon's at the same.
pub const AUTH_TIMEOUT_HARD: Duration = Duration::from_secs(60);
/// Shortest key without asking for less.
pub const MIN_KEY: usize = 16;
/// Longest key.
pub const MAX_KEY: usize = 1024;
/// Longest id of a key in a ring: one byte of the sealed preface counts it, and a result
/// struct holds it.
pub const KEY_ID: usize = 64;
/// What `auth_key_generate` writes: as long as the MAC it feeds.
pub const KEY_SIZE: usize = 32;

/// Largest datagram sent: libzmq's MAX_UDP_MSG.
pub const DATAGRAM_SEND: usize = 8 * 1024;
/// Largest datagram there is: 65,535 less the IPv4 and UDP headers.
pub const DATAGRAM_HARD: usize = 65_507;
/// Parts of a reply in datagrams: 64 MiB where each has 1 KiB.
pub const DATAGRAM_PARTS: u32 = 65_536;
/// Parts of a reply that are asked for at once where they are missing: of 8 KiB each they
/// fit the queue that Linux gives a socket by default (net.core.rmem_default).
pub const DATAGRAM_MISSING: usize = 16;
/// Bytes of a datagram request's `id`, which the server remembers.
pub const DATAGRAM_ID: usize = 256;
/// Output kept of each of a command's streams for a reply in datagrams: one that is lost
/// has the whole reply sent again.
pub const DATAGRAM_OUTPUT: u64 = MIB;
/// A datagram request and its reply, with everything that is sent again for it.
pub const DATAGRAM_TIMEOUT: Duration = Duration::from_secs(30);
/// First wait for a reply before its request is sent again; it doubles from there.
pub const DATAGRAM_RESEND: Duration = Duration::from_millis(200);
/// Longest such wait.
pub const DATAGRAM_RESEND_MAX: Duration = Duration::from_secs(2);
/// How long a reply waits for room in a queue before it counts as lost.
pub const DATAGRAM_REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of a reply that are sent without a pause; a queue has room for more than that.
pub const DATAGRAM_BURST: usize = 64 * 1024;
/// How long a repeated datagram request is answered from memory and not run again.
pub const DATAGRAM_REPLAY: Duration = Duration::from_secs(30);
/// Datagram requests remembered at once (nng #2288: an unbounded table).
pub const DATAGRAM_TABLE: usize = 1024;
/// Bytes of remembered datagram replies.
pub const DATAGRAM_TABLE_BYTES: usize = 32 * 1024 * 1024;
