//! Packets to and from tokio's LengthDelimitedCodec as it is by default: four bytes,
//! big-endian, unsigned.

mod common;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use common::channel::socket_pair;
use common::kind;
use framefd::ErrorKind;
use framefd::ops::frame::{self, Options};
use framefd::wire::frame::packet::PrefixFormat;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

fn options() -> Options {
    Options {
        timeout: Some(Duration::from_secs(10)),
        prefix: PrefixFormat::new(4, true, true).unwrap(),
        ..Options::default()
    }
}

/// Sends every packet back, the last byte first, until the other end closes.
fn mirror(stream: UnixStream) -> std::io::Result<usize> {
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let stream = tokio::net::UnixStream::from_std(stream)?;
        let mut packets = Framed::new(stream, LengthDelimitedCodec::new());
        let mut count = 0;
        while let Some(packet) = packets.next().await {
            let mut packet = packet?;
            packet.reverse();
            packets.send(packet.freeze()).await?;
            count += 1;
        }
        Ok(count)
    })
}

#[test]
fn packets_of_every_size_go_there_and_come_back() {
    let (fd, peer) = socket_pair();
    let mirroring = thread::spawn(|| mirror(peer));
    let sizes = [0, 1, 255, 256, 65_535, 65_536, 3_000_000];
    for size in sizes {
        let data: Vec<u8> = (0..=250).cycle().take(size).collect();
        frame::send_packet(fd.as_fd(), &data, &options()).unwrap();
        let back = frame::recv_packet(fd.as_fd(), &options()).unwrap();
        assert!(back.iter().rev().eq(&data), "{size} bytes");
    }
    drop(fd);
    assert_eq!(mirroring.join().unwrap().unwrap(), sizes.len());
}

#[test]
fn a_packet_above_the_limit_of_either_side_is_refused() {
    let (fd, peer) = socket_pair();
    let mirroring = thread::spawn(|| mirror(peer));
    frame::send_packet(fd.as_fd(), &[0; 100], &options()).unwrap();
    let small = Options { max_body: 99, ..options() };
    assert_eq!(kind(frame::recv_packet(fd.as_fd(), &small)), ErrorKind::TooBig);
    // The codec's own limit is 8 MiB; what it does not read cannot be sent.
    let sent = frame::send_packet(fd.as_fd(), &vec![0; (8 << 20) + 1], &options());
    assert_eq!(kind(sent), ErrorKind::Io);
    assert!(mirroring.join().unwrap().is_err());
}

#[test]
fn the_wrong_byte_order_is_named() {
    let (fd, peer) = socket_pair();
    let mirroring = thread::spawn(|| mirror(peer));
    frame::send_packet(fd.as_fd(), b"hello", &options()).unwrap();
    let little = Options { prefix: PrefixFormat::default(), ..options() };
    let error = frame::recv_packet(fd.as_fd(), &little).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig);
    assert!(error.detail().contains("big-endian"), "{error}");
    drop(fd); // with the packet unread in it, which the mirror sees as a reset
    let _ = mirroring.join().unwrap();
}
