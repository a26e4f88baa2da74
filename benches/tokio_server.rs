//! A contender: an echo server on tokio's LengthDelimitedCodec, with one thread. Replies to what
//! has come together are written together. It prints its port.

use std::error::Error;
use std::io::Write as _;

use futures_util::{FutureExt as _, SinkExt, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::bytes::Bytes;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        rustix::net::listen(&listener, 4096)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        println!("{}", listener.local_addr()?.port());
        std::io::stdout().flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(serve(stream));
        }
    })
}

/// Until the client leaves.
async fn serve(stream: TcpStream) -> Option<()> {
    let mut messages = Framed::new(stream, LengthDelimitedCodec::new());
    loop {
        let mut message = messages.next().await?.ok()?;
        loop {
            messages.feed(message.freeze()).await.ok()?;
            match messages.next().now_or_never() {
                Some(next) => message = next?.ok()?,
                None => break,
            }
        }
        SinkExt::<Bytes>::flush(&mut messages).await.ok()?;
    }
}
