//! Every default limit, with the reason for its value. docs/embedding.md lists them for users.

use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Header text: the limit of Redis for an inline request. OpenSSH limits a packet to 256 KiB.
pub const MAX_HEADER: u64 = 64 * KIB;
/// The largest header limit.
pub const MAX_HEADER_HARD: u64 = 16 * MIB;
/// Levels of nesting in a header.
pub const MAX_DEPTH: u32 = 32;
/// The largest nesting limit: that of `serde_json`.
pub const MAX_DEPTH_HARD: u32 = 127;
/// A body received into memory: tokio's codec accepts 8 MiB, gRPC 4 MiB, nng 1 GiB. A body in
/// pieces has no limit.
pub const MAX_BODY: u64 = 64 * MIB;
/// First step of a call's buffer for a body whose size the peer declared. The buffer grows as
/// bytes are received, so that a declared size alone costs nothing (CVE-2024-43410 in russh). It
/// is only address space until bytes are written to it. With a smaller step a body of megabytes
/// is read in more pieces, which takes a tenth longer. A connection, of which there may be
/// thousands, begins with less, unless it has had such a body before.
pub const FIRST_STEP: usize = 4 * 1024 * 1024;
/// Buffer size for bytes that are dropped, or joined from small pieces.
pub const GROW_STEP: usize = 64 * 1024;
/// First read size of a connection or a decoder: small, for thousands of idle connections.
pub const READ_AHEAD_MIN: usize = 8 * 1024;
/// Read size once reads keep filling the buffer: twice [`WRITE_BEHIND`], so that one read gets
/// hundreds of small frames.
pub const READ_AHEAD_MAX: usize = 128 * 1024;
/// From this size on a message that a connection receives keeps the buffer that it was received
/// in, and the next one gets a new one.
pub const OWN_BUFFER: usize = READ_AHEAD_MAX;
/// The most memory that an empty buffer keeps for the next message.
pub const BUFFER_KEPT: usize = 2 * READ_AHEAD_MAX;
/// Bytes that a connection queues before it writes.
pub const WRITE_BEHIND: usize = 64 * 1024;
/// Bytes that a connection receives while a send waits for the peer to read.
pub const TAKEN_IN: usize = 64 * 1024 * 1024;
/// Bytes that a connection accepts to be written later: half of [`TAKEN_IN`].
pub const MAX_QUEUE: u64 = 32 * MIB;
/// Bytes that are read and dropped before a close: enough for a reply in transit.
pub const LINGER: u64 = 256 * KIB;
/// One step of a body that is copied from descriptor to descriptor.
pub const COPY_STEP: usize = 1024 * 1024;

/// Command text, or all arguments together.
pub const MAX_COMMAND: u64 = 64 * KIB;
/// The kernel's MAX_ARG_STRLEN (32 pages) less the final NUL: execve(2) fails above it.
pub const MAX_COMMAND_HARD: u64 = 131_071;
/// Variables of a request: twice what the kernel accepts for one of them.
pub const MAX_ENVIRONMENT: u64 = 256 * KIB;
/// Output kept of each of a command's streams, as in qemu-guest-agent.
pub const MAX_OUTPUT: u64 = 16 * MIB;
/// From SIGTERM to SIGKILL for a command that ran out of time.
pub const TERM_GRACE: Duration = Duration::from_secs(2);
/// From the client's end of stream to the end of its command.
pub const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// How long a pipe is read after its command exited, while a grandchild keeps it open (CPython's
/// subprocess waits forever there).
pub const DRAIN_GRACE: Duration = Duration::from_millis(500);
/// The time without a byte after which a client that does not send its request, or does not read
/// its reply, is given up.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request or a reply that must pass in a second, on average, once that time is over:
/// as through the slowest modem. mod_reqtimeout of Apache has 500.
pub const LEAST_RATE: u64 = KIB;
/// A body that is only dropped gets no more time than one of this size, which is about an hour:
/// its size is its sender's choice. nginx drops for 30 s (`lingering_time`).
pub const DROPPED: u64 = 4 * MIB;
/// How long the transfer of a file may go without a byte.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a server that reads the first bytes of a file says that it is at work: several times
/// before a client that waits for a few seconds gives up.
pub const WORKING: Duration = Duration::from_secs(1);
/// Bytes of a request that are read and dropped after its refusal, so that the connection stays in
/// sync: less than a second's worth. Of more, the rest is not waited for.
pub const REFUSED: u64 = 16 * MIB;
/// How long dropping them may take.
pub const REFUSED_TIME: Duration = Duration::from_secs(30);
/// A larger file is put only after the server was asked whether it would be refused, in a tree and
/// with resume: the question takes a round trip, and so do the first bytes.
pub const ASKED: u64 = MIB;
/// How long a transfer may write nothing until another one may take its partial file over: more
/// than the pauses of a connection that still works, and less than it takes to start a client
/// again by hand.
pub const SILENT: Duration = Duration::from_secs(2);
/// How long the partial file of an interrupted transfer is kept for another try: over a night
/// and the next morning.
pub const PARTIAL_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Connecting, with all addresses of a name: five SYNs of TCP (after 0, 1, 3, 7 and 15 s), and
/// shorter than the kernel's own two minutes.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that wait to be accepted: net.core.somaxconn since Linux 5.4, which limits it.
pub const LISTEN_BACKLOG: i32 = 4096;

/// The authentication handshake.
pub const AUTH_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest timeout of the handshake: that of rsync's daemon.
pub const AUTH_TIMEOUT_HARD: Duration = Duration::from_secs(60);
/// Shortest key by default.
pub const MIN_KEY: usize = 16;
/// Longest key.
pub const MAX_KEY: usize = 1024;
/// Longest id of a key in a ring: its length fits one byte, and it fits a result struct.
pub const KEY_ID: usize = 64;
/// Bytes of a key of `auth_key_generate`: as long as the MAC.
pub const KEY_SIZE: usize = 32;
/// Shortest key for a sealed stream: whoever sees a handshake can try guesses at home.
pub const SEAL_KEY: usize = 32;
/// Longest name of a server: as long as a key's id, and below 256 for the byte of its length.
pub const SERVER_NAME: usize = 64;
/// Bytes of the stream in a sealed record: those of TLS. Larger ones gain nothing and wait longer
/// for their tag.
pub const SEAL_RECORD: usize = 16 * 1024;
/// Records under one key: far below the 2^32 of AES-GCM's own bound, and it costs a microsecond.
pub const SEAL_RECORDS: u64 = 1 << 20;
/// Bytes under one key: with 2^26 blocks an attacker's chance against AES-GCM stays below 2^-64.
pub const SEAL_BYTES: u64 = 1 << 30;

/// Largest datagram sent: libzmq's MAX_UDP_MSG.
pub const DATAGRAM_SEND: usize = 8 * 1024;
/// Largest possible datagram: 65,535 minus the IPv4 and UDP headers.
pub const DATAGRAM_HARD: usize = 65_507;
/// Parts of a reply in datagrams: 64 MiB if each has 1 KiB.
pub const DATAGRAM_PARTS: u32 = 65_536;
/// Missing parts of a reply that are requested at once: with 8 KiB each they fit the default
/// queue of a socket on Linux (net.core.rmem_default).
pub const DATAGRAM_MISSING: usize = 16;
/// Bytes of a datagram request's `id`, which the server remembers.
pub const DATAGRAM_ID: usize = 256;
/// Output kept of each of a command's streams for a reply in datagrams: less, because a lost
/// datagram makes the whole reply be sent again.
pub const DATAGRAM_OUTPUT: u64 = MIB;
/// A datagram request and its reply, with everything that is sent again for it.
pub const DATAGRAM_TIMEOUT: Duration = Duration::from_secs(30);
/// First wait for a reply before its request is sent again; it doubles each time.
pub const DATAGRAM_RESEND: Duration = Duration::from_millis(200);
/// Longest such wait.
pub const DATAGRAM_RESEND_MAX: Duration = Duration::from_secs(2);
/// How long all parts of a reply wait for room in a queue before the rest counts as lost.
pub const DATAGRAM_REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of a reply that are sent without a pause; a queue has room for more.
pub const DATAGRAM_BURST: usize = 64 * 1024;
/// How long the reply to a datagram request is kept, so that a repeated request is not run
/// again.
pub const DATAGRAM_REPLAY: Duration = Duration::from_secs(30);
/// Datagram requests remembered at once (nng #2288 is about an unlimited table): 30 s at 2,184
/// a second, in 6 MiB.
pub const DATAGRAM_SEEN: usize = 65_536;
/// Datagram requests that run, and replies that are kept.
pub const DATAGRAM_TABLE: usize = 1024;
/// Bytes of remembered datagram replies.
pub const DATAGRAM_TABLE_BYTES: usize = 32 * 1024 * 1024;

/// Connections of a server. Ten thousand work, if the process may have as many descriptors.
pub const CONNECTIONS: usize = 1024;
/// Connections of them that have proved no key yet: MaxStartups of OpenSSH is 100.
pub const UNAUTHENTICATED: usize = 64;
/// Commands of a server that run at once, for each processor; others wait. MaxSessions of OpenSSH
/// is 10 a connection.
pub const COMMANDS_PER_CPU: usize = 2;
/// Files that a server sends and receives at once; others wait.
pub const TRANSFERS: usize = 64;
/// How long a server's command may run.
pub const COMMAND_TIME: Duration = Duration::from_secs(60 * 60);
/// The first pause until the end of a terminal's input is typed again.
pub const TYPE_AGAIN: Duration = Duration::from_millis(100);
/// From the first byte of a request to the last of its header, in a server.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection of a server may go without a request: that of Redis' keepalive.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a server that stops waits for requests that it has begun: less than an orchestrator
/// waits before it kills (Kubernetes: 30 s, systemd: 90 s).
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
/// How long a server that stops waits for a request that is on its way on an idle connection.
pub const QUIET: Duration = Duration::from_millis(20);
/// How long one connection is served until others have their turn.
pub const TURN: Duration = Duration::from_millis(5);
/// How long a server reads and drops before it closes, so that the peer can read the last reply.
pub const LINGER_TIME: Duration = Duration::from_secs(1);
/// Bytes of replies that a server has queued for a connection while it reads more requests from
/// it.
pub const REPLIES: usize = 1024 * 1024;
/// Bytes of unfinished requests of all connections of a server.
pub const SERVER_MEMORY: u64 = 256 * MIB;
/// How long a server accepts nothing after it had no descriptor or no memory for a connection.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long a connection has at least to prove its key, however many others come.
pub const CHANCE: Duration = Duration::from_millis(100);
/// When TCP asks a silent peer whether it is there. It asks three times more, ten seconds apart: a
/// dead peer is gone within 90 s.
pub const KEEPALIVE: Duration = Duration::from_secs(60);
