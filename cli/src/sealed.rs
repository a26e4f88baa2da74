//! A sealed stream on its socket, without waiting.

use std::os::fd::OwnedFd;

use framefd::auth::SealedStream;
use framefd::{Error, ErrorKind};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// A sealed stream and its socket.
pub struct SealedSocket {
    pub seal: SealedStream,
    pub socket: OwnedFd,
    /// The socket has no more bytes.
    pub is_drained: bool,
}

impl SealedSocket {
    pub fn new(seal: SealedStream, socket: OwnedFd) -> SealedSocket {
        SealedSocket { seal, socket, is_drained: false }
    }

    /// Sends sealed bytes; whether that were all.
    pub fn send(&mut self) -> Result<bool, Error> {
        let mut written = 0;
        loop {
            let output = self.seal.output(written)?;
            if output.is_empty() {
                return Ok(true);
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            written = match rustix::net::send(&self.socket, output, flags) {
                Ok(sent) => sent,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => 0,
                Err(errno) => return Err(lost(errno)),
            };
        }
    }

    /// Receives sealed bytes; whether there were any, or their end.
    pub fn receive(&mut self) -> Result<bool, Error> {
        let space = self.seal.space()?;
        match rustix::net::recv(&self.socket, spare_capacity(space), RecvFlags::DONTWAIT) {
            Ok((_, 0)) => self.is_drained = true,
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(errno) => return Err(lost(errno)),
        }
        Ok(true)
    }
}

/// A connection that was reset, or that the kernel has given up.
pub fn lost(errno: Errno) -> Error {
    match errno {
        Errno::CONNRESET | Errno::PIPE => Error::system_as(ErrorKind::Truncated, "reset", errno),
        _ => Error::system("the connection", errno),
    }
}
