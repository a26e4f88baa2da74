//! A peer that is written by hand, without the library: frames over a descriptor that blocks.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use serde_json::Value;

use super::encoded;

/// A descriptor that is read and written as it is.
pub struct Raw<'fd>(pub BorrowedFd<'fd>);

impl Read for Raw<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, buf)?)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends bytes that need not be a frame.
#[track_caller]
pub fn send_bytes(fd: &impl AsFd, bytes: &[u8]) {
    Raw(fd.as_fd()).write_all(bytes).unwrap();
}

/// Sends the start of a frame: the header, with a `data_size` of `len`. The body is up to the
/// test.
#[track_caller]
pub fn begin(fd: &impl AsFd, mut header: Value, len: u64) {
    header["data_size"] = len.into();
    send_bytes(fd, &encoded(&header.to_string(), b""));
}

/// A frame whose body is read as the test likes.
pub struct Incoming<'fd> {
    fd: BorrowedFd<'fd>,
    /// The text of the header.
    pub text: String,
    /// Bytes of the body that were not read yet.
    pub left: u64,
}

/// The next frame; `None` if the other end has closed instead.
#[track_caller]
pub fn next(fd: &impl AsFd) -> Option<Incoming<'_>> {
    let fd = fd.as_fd();
    let mut length = [0; 4];
    if Raw(fd).read(&mut length[..1]).unwrap() == 0 {
        return None;
    }
    Raw(fd).read_exact(&mut length[1..]).unwrap();
    let mut text = vec![0; u32::from_le_bytes(length).try_into().unwrap()];
    Raw(fd).read_exact(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let mut incoming = Incoming { fd, text, left: 0 };
    incoming.left = incoming.header()["data_size"].as_u64().unwrap_or(0);
    Some(incoming)
}

impl Incoming<'_> {
    pub fn header(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// Reads what is left of the body and drops it. It is cut if something is left then.
    pub fn skip(&mut self) {
        io::copy(self, &mut io::sink()).unwrap();
    }

    /// What is left of the body, all of which has to come.
    #[track_caller]
    pub fn body(mut self) -> Vec<u8> {
        let mut body = Vec::new();
        self.read_to_end(&mut body).unwrap();
        assert_eq!(self.left, 0, "the body is cut");
        body
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = Raw(self.fd).read(&mut buf[..most])?;
        self.left -= got as u64;
        Ok(got)
    }
}
