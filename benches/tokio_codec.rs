//! A contender: tokio's LengthDelimitedCodec, flushed when its buffer is full or after each
//! message. The arguments and the figure are those of benches/c/messages.h.

#![allow(clippy::cast_precision_loss)]

use std::error::Error;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt as _};
use tokio_util::bytes::Bytes;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Messages = Framed<tokio::net::TcpStream, LengthDelimitedCodec>;

const USAGE: &str = "usage: tokio_codec messages|memory|trips batched|flushed SIZE MILLISECONDS";

/// In each direction, as the other contenders have it; by default it is 8 KiB.
const BUFFER: usize = 64 * 1024;

/// Between two looks at the clock.
const STRIDE: u64 = 16;

/// The first process receives or asks; it starts a second one, which it names its address.
fn main() -> Result<()> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [kind, way, size, milliseconds, address @ ..] = &arguments[..] else {
        return Err(USAGE.into());
    };
    let work = Work {
        is_batched: way == "batched",
        size: size.parse()?,
        time: Duration::from_millis(milliseconds.parse()?),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    if let [address] = address {
        let stream = TcpStream::connect(address)?;
        return runtime.block_on(async {
            match kind.as_str() {
                "trips" => answer(messages(stream)?).await,
                _ => work.send(messages(stream)?).await,
            }
        });
    }
    let (stream, mut other) = start_other(&arguments)?;
    let started = Instant::now();
    let count = runtime.block_on(async {
        match kind.as_str() {
            "trips" => work.ask(messages(stream)?).await,
            _ => receive(messages(stream)?).await,
        }
    })?;
    let seconds = started.elapsed().as_secs_f64();
    assert!(other.wait()?.success());
    let figure = match kind.as_str() {
        "memory" => peak_memory()?,
        "trips" => seconds * 1e6 / count as f64,
        _ => count as f64 / seconds,
    };
    println!("{figure}");
    Ok(())
}

fn start_other(arguments: &[String]) -> Result<(TcpStream, Child)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let other = Command::new(std::env::current_exe()?)
        .args(arguments)
        .arg(listener.local_addr()?.to_string())
        .spawn()?;
    Ok((listener.accept()?.0, other))
}

/// VmHWM of this process, in KiB.
fn peak_memory() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn messages(stream: TcpStream) -> Result<Messages> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let stream = tokio::net::TcpStream::from_std(stream)?;
    Ok(Framed::with_capacity(stream, LengthDelimitedCodec::new(), BUFFER))
}

struct Work {
    is_batched: bool,
    size: usize,
    time: Duration,
}

impl Work {
    async fn send(&self, mut messages: Messages) -> Result<()> {
        let (body, end) = (self.body(), Instant::now() + self.time);
        let mut count = 0;
        while count % STRIDE != 0 || Instant::now() < end {
            if self.is_batched {
                messages.feed(body.clone()).await?;
            } else {
                messages.send(body.clone()).await?;
            }
            count += 1;
        }
        Ok(SinkExt::<Bytes>::close(&mut messages).await?)
    }

    async fn ask(&self, mut messages: Messages) -> Result<u64> {
        let (body, end) = (self.body(), Instant::now() + self.time);
        let mut count = 0;
        while Instant::now() < end {
            messages.send(body.clone()).await?;
            messages.next().await.ok_or("no answer")??;
            count += 1;
        }
        Ok(count)
    }

    fn body(&self) -> Bytes {
        vec![b'x'; self.size].into()
    }
}

async fn receive(mut messages: Messages) -> Result<u64> {
    let mut count = 0;
    while let Some(message) = messages.next().await {
        std::hint::black_box(message?);
        count += 1;
    }
    Ok(count)
}

async fn answer(mut messages: Messages) -> Result<()> {
    while let Some(message) = messages.next().await {
        messages.send(message?.freeze()).await?;
    }
    Ok(())
}
