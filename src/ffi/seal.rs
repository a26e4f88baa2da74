//! A sealed stream without descriptors, for programs that read and write themselves.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

use super::auth::{AUTH_CHACHA, AUTH_CLIENT_SERVES, AuthKeyring, AuthOptions, AuthResult};
use crate::error::{Error, ErrorKind};
use crate::ffi::auth::proof_result;
use crate::ffi::boundary::outcome::{code, count, value};
use crate::ffi::boundary::parameters::{Bytes, Mut, Options, Out, Ref, Results, Value, commit};
use crate::ops::auth::SealedStream;
use crate::wire::seal::stream::Read;

/// A sealed stream: received bytes go in at one side and bytes to send come out of it, and the
/// other side has the plain ones. It reads no descriptor and never waits.
///
/// What read(2) gives goes to frame_seal_reserve() and frame_seal_commit(). What frame_seal_read()
/// gives is the plain stream: for messages, copy it to frame_decoder_reserve(). What is to be sent,
/// such as a head of frame_encode() and its body, goes to frame_seal_write(). What
/// frame_seal_output() gives goes to write(2).
///
/// It belongs to the caller, is freed with frame_seal_free() and may be used by one thread at a
/// time. An error of the stream sticks: every later call returns it. Close the descriptor then,
/// and send nothing more. In a child of fork(2) every call except frame_seal_free() returns
/// FRAME_EFORKED.
pub struct FrameSeal {
    stream: SealedStream,
    /// The room that frame_seal_reserve() has returned.
    room: usize,
}

/// Makes the client's end of a sealed stream, which proves that it holds the key. The first
/// output is there at once.
///
/// key is 32 to 1,024 bytes. It is copied, and wiped once the handshake is done or the seal is
/// freed. opts may be NULL; its members key_id, server_name and flags apply, as for
/// frame_connection_auth_client() without AUTH_PLAIN. The program itself gives the handshake a
/// time limit.
///
/// On success *out is the seal; on failure it is NULL. Returns 0, FRAME_EINVAL, FRAME_EKEY,
/// FRAME_ENOTSUP.
#[unsafe(no_mangle)]
pub extern "C" fn frame_seal_client(
    key: Bytes,
    key_len: usize,
    opts: Options<AuthOptions>,
    out: Out<FrameSeal>,
) -> c_int {
    code(|| {
        let (place, key) = (out.get("out")?, key.get(key_len, "key")?);
        let opts = opts.read("struct auth_options")?;
        opts.for_seal(AUTH_CLIENT_SERVES | AUTH_CHACHA)?;
        let (key, id, terms) = (opts.key(key)?, opts.id()?, opts.terms()?);
        let stream = SealedStream::client(&key, &id, &terms, opts.suite())?;
        place.put(FrameSeal { stream, room: 0 });
        Ok(())
    })
}

/// Makes the server's end of a sealed stream, for a client that holds a key of ring.
///
/// Every key of ring has at least 32 bytes. The seal keeps what it needs of the ring, which may
/// be freed. If the client's key leaves the ring later (see auth_keyring_load()), the next call
/// returns FRAME_EAUTH. opts may be NULL; its members server_name and flags apply.
///
/// Otherwise as frame_seal_client(). FRAME_EKEY: ring is empty or has a key that is too short, or
/// there are no random numbers.
#[unsafe(no_mangle)]
pub extern "C" fn frame_seal_server(
    ring: Ref<AuthKeyring>,
    opts: Options<AuthOptions>,
    out: Out<FrameSeal>,
) -> c_int {
    code(|| {
        let (place, ring) = (out.get("out")?, ring.get("ring")?);
        let opts = opts.read("struct auth_options")?;
        opts.for_seal(AUTH_CLIENT_SERVES)?;
        opts.without_id()?;
        let stream = SealedStream::server(ring.ring(), &opts.terms()?)?;
        place.put(FrameSeal { stream, room: 0 });
        Ok(())
    })
}

/// Wipes and frees a seal; NULL is ignored.
#[unsafe(no_mangle)]
pub extern "C" fn frame_seal_free(seal: Mut<FrameSeal>) {
    value((), || seal.free());
}

/// Reserves memory for received bytes, to be filled by read(2). Then call frame_seal_commit()
/// with their number.
///
/// *room, if room is not NULL, is the number of bytes that fit, at least 1. The memory belongs to
/// the seal and is valid until the next call on it. It grows with the bytes that were received,
/// never with a declared length.
///
/// Returns NULL with a room of 0 if the seal has failed or there is no memory; frame_seal_read()
/// then returns the code.
#[unsafe(no_mangle)]
pub extern "C" fn frame_seal_reserve(seal: Mut<FrameSeal>, room: Value<usize>) -> *mut c_void {
    let mut space = (ptr::null_mut(), 0);
    code(|| {
        let seal = seal.get("seal")?;
        seal.room = 0;
        let free: &mut [MaybeUninit<u8>] = seal.stream.space()?.spare_capacity_mut();
        space = (free.as_mut_ptr().cast(), free.len());
        seal.room = space.1;
        Ok(())
    });
    room.put(space.1);
    space.0
}

/// Reports that n bytes were written to the memory of frame_seal_reserve(). Then call
/// frame_seal_read() until it returns no bytes, and send the output.
///
/// Returns 0, or FRAME_EINVAL: n is larger than the room was.
#[unsafe(no_mangle)]
pub extern "C" fn frame_seal_commit(seal: Mut<FrameSeal>, n: usize) -> c_int {
    code(|| {
        let FrameSeal { stream, room } = seal.get("seal")?;
        if n > std::mem::take(room) {
            let detail = format!("n is {n}, which is more than the room was");
            return Err(Error::new(ErrorKind::Argument, detail));
        }
        // Nothing has changed the spare capacity since: every other call sets the room to 0.
        commit(stream.buffer(), n)
    })
}

/// Takes the next bytes of the stream out of the committed ones; before there are any, it does
/// the handshake. There may be new output afterwards.
///
/// *bytes points to them and is valid until the next call on the seal; it is NULL if there are
/// none.
///
/// Returns their number, 0 if more must be received first. FRAME_ECLOSED: the peer has ended its
/// direction. FRAME_EAUTH: the peer does not have the key, or another name or role, or the bytes
/// were changed; frame_last_error() says what is known. FRAME_ENOMEM, FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_seal_read(seal: Mut<FrameSeal>, bytes: Value<*const c_void>) -> i64 {
    count(|| {
        let (seal, bytes) = (seal.get("seal")?, bytes.required("bytes")?.cleared());
        seal.room = 0;
        match seal.stream.read()? {
            Read::More => Ok(0),
            Read::End => Err(Error::new(ErrorKind::Closed, "")),
            Read::Bytes(there) => {
                bytes.put(there.as_ptr().cast());
                Ok(i64::try_from(there.len()).unwrap_or(i64::MAX))
            }
        }
    })
}

/// Call it once the descriptor has no more bytes, and frame_seal_read() has returned 0 or
/// FRAME_ECLOSED.
///
/// Returns 0: the peer had ended its direction. FRAME_ETRUNCATED: the stream was cut.
/// FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_seal_finish(seal: Mut<FrameSeal>) -> c_int {
    code(|| {
        let seal = seal.get("seal")?;
        seal.room = 0;
        seal.stream.finish()
    })
}

/// Seals len bytes, to be sent as output. With end they are the last: the peer sees the end of
/// the stream after them. NULL and 0 are no bytes.
///
/// Before the handshake is done they wait, up to 64 KiB.
///
/// Returns 0. These change nothing: FRAME_ESTATE (the stream was ended before, or more than 64 KiB
/// would wait), FRAME_ENOMEM, FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_seal_write(
    seal: Mut<FrameSeal>,
    bytes: Bytes,
    len: usize,
    end: bool,
) -> c_int {
    code(|| {
        let (seal, bytes) = (seal.get("seal")?, bytes.get(len, "bytes")?);
        seal.room = 0;
        seal.stream.write(bytes, end)
    })
}

/// The bytes to send, after `written` bytes of the last output were sent. All of it must be sent,
/// in order.
///
/// *bytes points to them and is valid until the next call on the seal; it is NULL if there are
/// none.
///
/// Returns their number, 0 if there is nothing to send. FRAME_EINVAL: written is more than there
/// was. Any other code is the failure that ended the stream.
#[unsafe(no_mangle)]
pub extern "C" fn frame_seal_output(
    seal: Mut<FrameSeal>,
    written: usize,
    bytes: Value<*const c_void>,
) -> i64 {
    count(|| {
        let (seal, bytes) = (seal.get("seal")?, bytes.required("bytes")?.cleared());
        seal.room = 0;
        let output = seal.stream.output(written)?;
        if !output.is_empty() {
            bytes.put(output.as_ptr().cast());
        }
        Ok(i64::try_from(output.len()).unwrap_or(i64::MAX))
    })
}

/// Writes what the handshake has proved to *out.
///
/// Returns 0. FRAME_ESTATE: it is not done. FRAME_EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn frame_seal_proof(seal: Ref<FrameSeal>, out: Results<AuthResult>) -> c_int {
    code(|| {
        out.check("struct auth_result")?;
        let proof = seal.get("seal")?.stream.proof()?;
        out.put(&proof_result(proof.as_ref())?, "struct auth_result")
    })
}
