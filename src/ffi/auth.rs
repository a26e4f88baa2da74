//! The handshakes, key files and key rings.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;
use std::time::Duration;

use super::boundary::hook::hook;
use super::boundary::options::{self, SizedStruct, duplex, timeout};
use super::boundary::outcome::{code, small, value};
use super::boundary::parameters::{Bytes, Fd, Handle, Options, Out, Ref, Results, Room, Text};
use super::connection::FrameConnection;
use crate::error::{Error, ErrorKind, Result};
use crate::io::wait::Interrupt;
use crate::limits;
use crate::ops::auth;
use crate::ops::auth::key_file::{self, Rules};
use crate::ops::auth::keyring::Keyring;
use crate::ops::frame::{Connection, Proof};
use crate::wire::auth::{Key, KeyId};
use crate::wire::seal::terms::{ServerName, Suite, Terms};

/// For auth_options.flags: the plain handshake, for trusted networks and for peers that know no
/// other. It proves that the client held the key when the connection opened, and nothing else.
/// The server is not authenticated, the bytes that follow are neither secret nor protected
/// against change, and a man in the middle can relay the challenge.
pub const AUTH_PLAIN: u32 = 1;
/// For flags: accept keys of 1 to 15 bytes, for peers that cannot use longer ones. An observer
/// of a handshake can guess such a key by trying all of them.
pub const AUTH_SHORT_KEY: u32 = 2;
/// For the flags of auth_key_load() and auth_keyring_load(): a key file may be readable by its
/// group, may belong to root, and may be reached through symbolic links.
pub const AUTH_GROUP_READABLE: u32 = 4;
/// For auth_options.flags: the end that connected is the one that serves, as an agent that dials
/// out. Both ends set it, or neither.
pub const AUTH_CLIENT_SERVES: u32 = 8;
/// The same, for a sealed client: use ChaCha20-Poly1305. Without it, a processor with
/// instructions for AES uses AES-256-GCM, which is faster there.
pub const AUTH_CHACHA: u32 = 16;

/// For auth_result.suite: AES-256-GCM.
pub const AUTH_SUITE_AESGCM: u32 = 1;
/// The same: ChaCha20-Poly1305.
pub const AUTH_SUITE_CHACHAPOLY: u32 = 2;

/// Options of the handshake. Initialise it with AUTH_OPTIONS_INIT; a member that is 0 has its
/// default.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct AuthOptions {
    /// sizeof(struct auth_options), set by AUTH_OPTIONS_INIT.
    pub size: u32,
    /// Milliseconds for the whole handshake; default 10 s, at most 60 s.
    pub timeout_ms: i32,
    /// AUTH_... flags, combined with |.
    pub flags: u32,
    /// For auth_server() and auth_client(): the descriptor to write to, if it is another one
    /// than fd.
    pub write_fd: i32,
    /// For auth_server() and auth_client(), as in frame_options. A connection uses its own.
    pub interrupted: Option<extern "C" fn(context: *mut c_void) -> c_int>,
    /// Passed to interrupted().
    pub context: *mut c_void,
    /// For a sealed client: the server's id for the key, as in auth_keyring_add(); NULL is a key
    /// without an id.
    pub key_id: *const c_char,
    /// For a sealed handshake: the server's name, 0 to 64 of A-Z a-z 0-9 . _ -, which both ends
    /// must know; NULL is the empty name. It does not travel. The empty name is only for a key
    /// that one client and one server have: with a key that others hold too, a man in the middle
    /// can otherwise lead a client to another one of them, or back to itself.
    pub server_name: *const c_char,
}

// SAFETY: numbers and pointers, `size` first, no padding at the end.
unsafe impl SizedStruct for AuthOptions {}

/// What a handshake has proved.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct AuthResult {
    /// sizeof(struct auth_result), set by AUTH_RESULT_INIT.
    pub size: u32,
    /// How the connection is sealed, AUTH_SUITE_...; 0 if it is not.
    pub suite: u32,
    /// The id of the key that the client holds, with a NUL; empty for a key without an id.
    pub key_id: [c_char; 68],
    /// For a sealed connection: a value that both ends have, and no other connection. A protocol
    /// above can bind itself to this connection by it.
    pub handshake_hash: [u8; 32],
}

// SAFETY: numbers only, `size` first, no padding.
unsafe impl SizedStruct for AuthResult {}

/// Keys by id. Their bytes are wiped when they are replaced or freed.
///
/// It belongs to the caller. Free it with auth_keyring_free() after the last call that gets it.
/// Any number of threads may use and change it.
pub struct AuthKeyring(Arc<Keyring>);

impl AuthKeyring {
    /// The keys, for as long as somebody uses them.
    pub(super) fn shared(&self) -> Arc<Keyring> {
        Arc::clone(&self.0)
    }
}

/// Asks the peer to prove that it holds the key: sends a challenge of 32 random bytes, receives
/// HMAC-SHA256(key, challenge) (RFC 2104) and compares it in constant time. No byte after the
/// answer is read. See AUTH_PLAIN for what this proves.
///
/// key is key_len bytes, 16 to 1,024. HMAC pads with zeros, so NULs at the end of a key make no
/// difference. opts may be NULL. Everything is borrowed for the call. Threads may call it at the
/// same time on different descriptors.
///
/// Returns 0. FRAME_EAUTH: the answer is wrong. FRAME_EKEY: the key cannot be used, or there are
/// no random numbers; nothing was sent. FRAME_ETIMEDOUT, FRAME_ESTALLED, FRAME_ECANCELED,
/// FRAME_ECLOSED, FRAME_ETRUNCATED: no complete answer. FRAME_EBADF, FRAME_EIO with errno,
/// FRAME_EINVAL. Close the descriptor after any of them.
#[unsafe(no_mangle)]
pub extern "C" fn auth_server(
    fd: Fd,
    key: Bytes,
    key_len: usize,
    opts: Options<AuthOptions>,
) -> c_int {
    code(|| {
        let (key, opts) = (key.get(key_len, "key")?, opts.read("struct auth_options")?);
        let (key, options) = (opts.key(key)?, opts.raw()?);
        auth::server(duplex(fd.number(), opts.write_fd)?, &[&key], options).map(drop)
    })
}

/// Proves to the peer that this side holds the key: receives a challenge of 32 bytes and answers
/// with HMAC-SHA256(key, challenge).
///
/// The server sends no result: 0 means that the answer was sent. A server that refuses it closes
/// the connection, and the next receive reports that. The server chooses the bytes that are
/// answered, so use the key for nothing else.
///
/// Parameters and codes are as for auth_server(), without FRAME_EAUTH. FRAME_ECLOSED: the server
/// closed the stream before its challenge.
#[unsafe(no_mangle)]
pub extern "C" fn auth_client(
    fd: Fd,
    key: Bytes,
    key_len: usize,
    opts: Options<AuthOptions>,
) -> c_int {
    code(|| {
        let (key, opts) = (key.get(key_len, "key")?, opts.read("struct auth_options")?);
        let (key, options) = (opts.key(key)?, opts.raw()?);
        auth::client(duplex(fd.number(), opts.write_fd)?, &key, options)
    })
}

/// Reads a key from the file at path into buf, without one newline at its end.
///
/// flags are AUTH_SHORT_KEY and AUTH_GROUP_READABLE, or 0. buf has cap bytes; 1,024 are enough.
/// Wipe it after use. Any thread.
///
/// Returns the length of the key. FRAME_EKEY: others may read or write the file, it belongs to
/// another user, it is a symbolic link or not a regular file, or the key is empty, too short or
/// too long; frame_last_error() says which. FRAME_ETOOBIG: the key is longer than buf.
/// FRAME_ENOENT, FRAME_EACCES, FRAME_EIO, with errno. FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn auth_key_load(path: Text, flags: u32, buf: Room, cap: usize) -> c_int {
    small(|| {
        let (path, rules) = (path.path("path")?, rules(flags)?);
        let buf = buf.get(cap, "buf")?;
        let key = key_file::load(path, rules)?;
        let bytes = key.as_bytes();
        let Some(place) = buf.get_mut(..bytes.len()) else {
            let detail = format!("the key has {} bytes, and buf has {cap}", bytes.len());
            return Err(Error::new(ErrorKind::TooBig, detail));
        };
        place.copy_from_slice(bytes);
        Ok(c_int::try_from(bytes.len()).unwrap_or(c_int::MAX))
    })
}

/// Writes a new key of 32 random bytes into a new file at path, of mode 0600.
///
/// Any thread. Returns 0. FRAME_EEXIST: path exists, and is not changed. FRAME_EKEY: there are
/// no random numbers. FRAME_ENOENT (no such directory), FRAME_EACCES, FRAME_ENOSPC, FRAME_EIO,
/// with errno: no file is left. FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn auth_key_generate(path: Text) -> c_int {
    code(|| key_file::generate(path.path("path")?))
}

/// Makes an empty ring of keys.
///
/// On success *out is the ring, freed with auth_keyring_free(); on failure it is NULL. Returns 0
/// or FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn auth_keyring_new(out: Out<AuthKeyring>) -> c_int {
    code(|| {
        out.get("out")?.put(AuthKeyring(Arc::new(Keyring::new())));
        Ok(())
    })
}

/// Adds a key to a ring. The key is copied.
///
/// id is 1 to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot; NULL is a key without an
/// id. key is key_len bytes, 16 to 1,024. flags is AUTH_SHORT_KEY or 0. Any thread.
///
/// Returns 0. FRAME_EEXIST: the ring has a key of this id. FRAME_EKEY: another id has this key,
/// or the key or the id cannot be used. FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn auth_keyring_add(
    ring: Handle<AuthKeyring>,
    id: Text,
    key: Bytes,
    key_len: usize,
    flags: u32,
) -> c_int {
    code(|| {
        let ring = ring.get("ring")?;
        let id = id.optional_bytes("id")?.map_or(Ok(KeyId::default()), KeyId::new)?;
        let flags = options::flags(flags, AUTH_SHORT_KEY, "flags")?;
        ring.0.add(id, key_of(key.get(key_len, "key")?, flags)?)
    })
}

/// Replaces all keys of a ring, or none. If path is a directory, each of its files is a key, and
/// the file's name is the id. If path is a file, it is one key without an id.
///
/// Files whose names begin with a dot are ignored. flags and the rules for each file are as for
/// auth_key_load(). Any thread; running handshakes are not affected.
///
/// Returns 0, or a code of auth_key_load(): the ring is then unchanged. FRAME_EKEY also for a
/// name that is not an id, two files with the same key, and a directory without keys.
#[unsafe(no_mangle)]
pub extern "C" fn auth_keyring_load(ring: Handle<AuthKeyring>, path: Text, flags: u32) -> c_int {
    code(|| ring.get("ring")?.0.load(path.path("path")?, rules(flags)?))
}

/// Wipes and frees a ring; NULL is ignored.
#[unsafe(no_mangle)]
pub extern "C" fn auth_keyring_free(ring: Handle<AuthKeyring>) {
    value((), || ring.free());
}

/// Proves to the server that this side holds the key, has the server prove the same, and seals
/// the connection: everything that follows is encrypted, and protected against change, loss and
/// repetition. It must be the first call on the connection. docs/security.md says what a sealed
/// connection protects against.
///
/// key is 32 to 1,024 bytes, borrowed for the call. opts->key_id and opts->server_name are what
/// the server has. write_fd, interrupted and AUTH_SHORT_KEY do not apply. The wire is that of
/// docs/protocol.md: Noise (revision 34), pattern NNpsk0.
///
/// With AUTH_PLAIN in opts->flags it is the handshake of auth_client(), which protects nothing
/// that follows. A key of 16 bytes is enough for that, or of 1 with AUTH_SHORT_KEY.
///
/// Returns 0. FRAME_EAUTH: the server does not have this key under this id, or another name, or
/// it expects the other role; or it does not speak sealed. FRAME_ETRUNCATED: it closed the
/// connection, as it does when it refuses the client. (A plain server that refuses does so after
/// the call, and the next receive reports that.) FRAME_ETIMEDOUT with FRAME_DONT_WAIT as
/// timeout_ms: call again; until then other calls are FRAME_ESTATE. These change nothing:
/// FRAME_EKEY (the key or the id cannot be used, or there are no random numbers), FRAME_EINVAL
/// (also FRAME_CONNECTION_EXACT: a record may have several messages), FRAME_ESTATE (the
/// connection was used before), FRAME_EBUSY, FRAME_ENOTSUP (a library that was built without
/// sealing). Every other failure breaks the connection: the codes of frame_connection_recv() and
/// frame_connection_send().
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_auth_client(
    c: Handle<FrameConnection>,
    key: Bytes,
    key_len: usize,
    opts: Options<AuthOptions>,
) -> c_int {
    code(|| {
        let (c, opts) = (c.get("c")?, opts.read("struct auth_options")?);
        let timeout =
            opts.for_connection(AUTH_PLAIN | AUTH_SHORT_KEY, AUTH_CLIENT_SERVES | AUTH_CHACHA)?;
        let key = opts.key(key.get(key_len, "key")?)?;
        if opts.has(AUTH_PLAIN) {
            return c.cell.both(|connection| connection.auth_client(&key, timeout));
        }
        let (id, terms, suite) = (opts.id()?, opts.terms()?, opts.suite());
        c.cell.both(|connection| connection.seal_client(&key, &id, &terms, suite, timeout))
    })
}

/// Asks the client to prove that it holds a key of ring, proves the same to it, and seals the
/// connection. It must be the first call on the connection.
///
/// Every key of ring has at least 32 bytes. The client names its key by the id. If that key
/// leaves the ring later (see auth_keyring_load()), the connection is aborted. opts->server_name
/// is this server's name. key_id, write_fd, interrupted, AUTH_SHORT_KEY and AUTH_CHACHA do not
/// apply. who may be NULL; on success it has the id of the key.
///
/// With AUTH_PLAIN in opts->flags it is the handshake of auth_server(), with every key of the
/// ring.
///
/// Returns 0. FRAME_EAUTH: the client does not have the key, or another name for this server, or
/// it expects the other role; or it does not speak sealed; frame_last_error() says what is known.
/// Close the connection. FRAME_EKEY: ring is empty or has a key that is too short, or there are
/// no random numbers. Otherwise as frame_connection_auth_client().
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_auth_server(
    c: Handle<FrameConnection>,
    ring: Ref<AuthKeyring>,
    opts: Options<AuthOptions>,
    who: Results<AuthResult>,
) -> c_int {
    code(|| {
        who.check("struct auth_result")?;
        let (c, ring) = (c.get("c")?, ring.get("ring")?);
        let opts = opts.read("struct auth_options")?;
        let timeout = opts.for_connection(AUTH_PLAIN, AUTH_CLIENT_SERVES)?;
        opts.without_id()?;
        let proof = if opts.has(AUTH_PLAIN) {
            c.cell.both(|connection| {
                connection.auth_server(&ring.0, timeout)?;
                proof(connection)
            })
        } else {
            let terms = opts.terms()?;
            c.cell.both(|connection| {
                connection.seal_server(&ring.0, &terms, timeout)?;
                proof(connection)
            })
        };
        who.put(&proof?, "struct auth_result")
    })
}

/// Writes what the handshake on a connection has proved to *out. It works on a broken connection.
///
/// Returns 0. FRAME_ESTATE: there was no handshake. FRAME_EINVAL, FRAME_EBUSY, FRAME_EFORKED.
#[unsafe(no_mangle)]
pub extern "C" fn frame_connection_proof(
    c: Handle<FrameConnection>,
    out: Results<AuthResult>,
) -> c_int {
    code(|| {
        out.check("struct auth_result")?;
        let proof = c.get("c")?.cell.any(|connection, _| {
            if connection.shared().is_here() {
                proof(connection)
            } else {
                Err(Error::new(ErrorKind::Forked, ""))
            }
        })?;
        out.put(&proof, "struct auth_result")
    })
}

fn proof(connection: &Connection<'_>) -> Result<AuthResult> {
    proof_result(connection.proof())
}

/// A proof, for C.
pub(super) fn proof_result(proof: Option<&Proof>) -> Result<AuthResult> {
    let none = || Error::new(ErrorKind::State, "there was no handshake");
    let proof = proof.ok_or_else(none)?;
    let (suite, handshake_hash) = match &proof.seal {
        Some((suite, hash)) => (*suite as u32, *hash),
        None => (0, [0; 32]),
    };
    let mut result = AuthResult { size: 0, suite, key_id: [0; 68], handshake_hash };
    for (to, from) in result.key_id.iter_mut().zip(proof.key_id.as_str().bytes()) {
        *to = from.cast_signed() as c_char;
    }
    Ok(result)
}

impl AuthKeyring {
    pub(super) fn ring(&self) -> &Arc<Keyring> {
        &self.0
    }
}

impl AuthOptions {
    fn timeout(&self) -> Result<Duration> {
        let limit = limits::AUTH_TIMEOUT_HARD;
        Ok(timeout(self.timeout_ms, Some(limits::AUTH_TIMEOUT))?.unwrap_or(limit))
    }

    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// For a handshake on raw descriptors.
    fn raw(&self) -> Result<auth::Options> {
        options::flags(self.flags, AUTH_PLAIN | AUTH_SHORT_KEY, "auth_options")?;
        self.not_sealed("a raw descriptor")?;
        let interrupt =
            self.interrupted.map(|asked| Arc::new(Interrupt::by_hook(hook(asked, self.context))));
        Ok(auth::Options { timeout: self.timeout()?, interrupt })
    }

    /// The timeout of a handshake on a connection, which may have these flags.
    fn for_connection(&self, plain: u32, sealed: u32) -> Result<Duration> {
        if self.has(AUTH_PLAIN) {
            options::flags(self.flags, plain, "auth_options with AUTH_PLAIN")?;
            self.not_sealed("AUTH_PLAIN")?;
        } else {
            options::flags(self.flags, sealed, "auth_options without AUTH_PLAIN")?;
        }
        options::unused(self.write_fd, "auth_options.write_fd")?;
        if self.interrupted.is_some() {
            return Err(options::not_here("auth_options.interrupted", "a connection"));
        }
        self.timeout()
    }

    /// Refuses the members of a sealed handshake.
    fn not_sealed(&self, to: &str) -> Result<()> {
        for (member, name) in [(self.key_id, "key_id"), (self.server_name, "server_name")] {
            if !member.is_null() {
                return Err(options::not_here(&format!("auth_options.{name}"), to));
            }
        }
        Ok(())
    }

    /// Refuses what only a call with a descriptor has, and other flags.
    pub(super) fn for_seal(&self, flags: u32) -> Result<()> {
        options::flags(self.flags, flags, "auth_options")?;
        options::unused(self.timeout_ms, "auth_options.timeout_ms")?;
        options::unused(self.write_fd, "auth_options.write_fd")?;
        if self.interrupted.is_some() {
            return Err(options::not_here("auth_options.interrupted", "a seal"));
        }
        Ok(())
    }

    /// The id of a client's key.
    pub(super) fn id(&self) -> Result<KeyId> {
        let id = Text::of(self.key_id).optional_bytes("auth_options.key_id")?;
        id.map_or(Ok(KeyId::default()), KeyId::new)
    }

    /// The suite that a client insists on.
    pub(super) fn suite(&self) -> Option<Suite> {
        self.has(AUTH_CHACHA).then_some(Suite::ChaChaPoly)
    }

    /// Refuses the id of a client's key at a server.
    pub(super) fn without_id(&self) -> Result<()> {
        if self.key_id.is_null() {
            return Ok(());
        }
        Err(options::not_here("auth_options.key_id", "a server"))
    }

    pub(super) fn terms(&self) -> Result<Terms> {
        let name = Text::of(self.server_name).optional_bytes("auth_options.server_name")?;
        let name = name.map_or(Ok(ServerName::default()), ServerName::new)?;
        Ok(Terms { name, client_serves: self.has(AUTH_CLIENT_SERVES) })
    }

    pub(super) fn key(&self, bytes: &[u8]) -> Result<Key> {
        key_of(bytes, self.flags)
    }
}

fn key_of(bytes: &[u8], flags: u32) -> Result<Key> {
    if flags & AUTH_SHORT_KEY == 0 { Key::new(bytes) } else { Key::new_short(bytes) }
}

fn rules(flags: u32) -> Result<Rules> {
    let flags = options::flags(flags, AUTH_SHORT_KEY | AUTH_GROUP_READABLE, "flags")?;
    Ok(Rules {
        allow_short: flags & AUTH_SHORT_KEY != 0,
        group_readable: flags & AUTH_GROUP_READABLE != 0,
    })
}
