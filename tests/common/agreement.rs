//! What the decoder, a connection and the stateless functions find in the same bytes, for
//! tests/agreement.rs and fuzz/fuzz_targets/agreement.rs.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use framefd::ops::frame::{self, Connection, ConnectionOptions, Options};
use framefd::wire::frame::decoder::Decoder;
use framefd::wire::frame::packet::PrefixFormat;
use framefd::wire::frame::queue::Format;
use framefd::{Error, ErrorKind};

/// What is found in a stream: the messages, and why there is no further one.
#[derive(Debug, PartialEq)]
pub struct Found {
    pub messages: Vec<(String, Vec<u8>)>,
    pub end: ErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    Frames,
    Packets,
    /// Frames whose bodies are taken in pieces, so that their size has no limit.
    Streamed,
}

/// Limits that are small enough to be met. What is read is there already.
pub fn options(prefix: PrefixFormat) -> Options {
    Options {
        timeout: Some(Duration::ZERO),
        max_header: 100,
        max_depth: 4,
        max_body: 200,
        prefix,
        interrupt: None,
    }
}

/// What all of them find in `bytes`, which connections and the decoder get in pieces that end at
/// `cuts`.
pub fn agree(bytes: &[u8], cuts: &[usize], what: What, prefix: PrefixFormat) -> Found {
    let options = options(prefix);
    let found = by_decoder(bytes, cuts, what, &options);
    for exact in [false, true] {
        let by_connection = by_connection(bytes, cuts, what, exact, &options);
        assert_eq!(by_connection, found, "a connection, {what:?}, exact: {exact}");
    }
    if what != What::Streamed {
        assert_eq!(by_stateless(bytes, what, &options), found, "stateless, {what:?}");
    }
    found
}

fn by_stateless(bytes: &[u8], what: What, options: &Options) -> Found {
    let (mut peer, fd) = UnixStream::pair().unwrap();
    peer.write_all(bytes).unwrap();
    drop(peer);
    let mut messages = Vec::new();
    let end = loop {
        let next = match what {
            What::Packets => {
                frame::recv_packet(fd.as_fd(), options).map(|body| (String::new(), body))
            }
            _ => frame::recv(fd.as_fd(), options)
                .map(|frame| (frame.header.text().to_owned(), frame.body)),
        };
        match next {
            Ok(message) => messages.push(message),
            Err(error) => break error.kind(),
        }
    };
    Found { messages, end }
}

fn by_connection(
    bytes: &[u8],
    cuts: &[usize],
    what: What,
    exact: bool,
    options: &Options,
) -> Found {
    let (mut peer, fd) = UnixStream::pair().unwrap();
    let Options { max_header, max_depth, max_body, prefix, .. } = *options;
    let format = if what == What::Packets { Format::Packets(prefix) } else { Format::Frames };
    let limits =
        ConnectionOptions { max_header, max_depth, max_body, format, exact, ..Default::default() };
    let mut connection = Connection::new(fd.as_fd(), limits).unwrap();
    let mut messages: Vec<(String, Vec<u8>)> = Vec::new();
    let mut next = |connection: &mut Connection<'_>| {
        if connection.to_receive() > 0 {
            let mut piece = [0; 7];
            let got = connection.read(&mut piece, options.timeout)?;
            messages.last_mut().unwrap().1.extend_from_slice(&piece[..got]);
            return Ok(());
        }
        let view = match what {
            What::Frames | What::Packets => connection.next(options.timeout)?,
            What::Streamed => connection.recv_header(options.timeout)?.0,
        };
        messages.push((view.header().to_owned(), view.body().to_vec()));
        Ok(())
    };
    let mut until_it_fails = |connection: &mut Connection<'_>| -> Error {
        loop {
            if let Err(error) = next(connection) {
                break error;
            }
        }
    };
    let mut end = None;
    for piece in pieces(bytes, cuts) {
        peer.write_all(piece).unwrap();
        let error = until_it_fails(&mut connection);
        if error.kind() != ErrorKind::TimedOut {
            end = Some(error);
            break;
        }
    }
    drop(peer);
    let last = until_it_fails(&mut connection);
    let end = end.map_or_else(
        || last.kind(),
        |end| {
            assert_eq!(last, Error::new(ErrorKind::Broken, end.to_string()), "it stays broken");
            end.kind()
        },
    );
    if connection.to_receive() > 0 {
        messages.pop();
    }
    Found { messages, end }
}

pub fn by_decoder(bytes: &[u8], cuts: &[usize], what: What, options: &Options) -> Found {
    let mut decoder = Decoder::new(options.limits());
    let mut messages: Vec<(String, Vec<u8>)> = Vec::new();
    let mut next = |decoder: &mut Decoder| {
        if decoder.left() > 0 {
            let piece = decoder.body(usize::MAX);
            messages.last_mut().unwrap().1.extend_from_slice(piece);
            return Ok(!piece.is_empty());
        }
        let view = match what {
            What::Frames => decoder.next_frame()?,
            What::Packets => decoder.next_packet()?,
            What::Streamed => decoder.next_header()?,
        };
        let found = view.map(|view| (view.header().to_owned(), view.body().to_vec()));
        let is_found = found.is_some();
        messages.extend(found);
        Ok(is_found)
    };
    let mut failed: Option<Error> = None;
    for piece in pieces(bytes, cuts) {
        if decoder.feed(piece).is_err() {
            break;
        }
        failed = loop {
            match next(&mut decoder) {
                Ok(true) => {}
                Ok(false) => break None,
                Err(error) => break Some(error),
            }
        };
    }
    let end = decoder.end();
    if let Some(failed) = failed {
        assert_eq!(failed, end, "an error sticks");
    }
    // The stateless functions give no body that was cut.
    if decoder.left() > 0 {
        messages.pop();
    }
    Found { messages, end: end.kind() }
}

/// `bytes` in the pieces that end at `cuts`, which are in order.
fn pieces<'a>(bytes: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut from = 0;
    cuts.iter().copied().chain([bytes.len()]).map(move |cut| {
        let to = cut.clamp(from, bytes.len());
        &bytes[std::mem::replace(&mut from, to)..to]
    })
}
