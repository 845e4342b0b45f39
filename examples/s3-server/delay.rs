//! A link with latency: passes bytes on later, and as many of them as come.
//!
//! Every piece is passed on a fixed time after it came, so a stream that is under way keeps its rate and only waiting
//! for an answer costs. Not modelled: loss, slow start, limited bandwidth.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Outcome;

const PIECE_BYTES: usize = 64 * 1024;
/// Pieces on their way in one direction: 64 MiB, more than 30 ms at the rate of a loopback link.
const PIECES_UNDER_WAY: usize = 1024;

/// A bound link.
pub(crate) struct Link {
    listener: TcpListener,
    address: SocketAddr,
    behind: SocketAddr,
    round_trip: Duration,
}

impl Link {
    /// Binds a free port that leads to `behind` and adds `round_trip` to what a question and its answer take.
    pub(crate) async fn bind(behind: SocketAddr, round_trip: Duration) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, behind, round_trip })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes connections on until the listener fails.
    pub(crate) async fn serve(self) -> Outcome<()> {
        let mut connections = JoinSet::new();
        loop {
            let (outside, _) = self.listener.accept().await?;
            let (behind, round_trip) = (self.behind, self.round_trip);
            connections.spawn(async move {
                // Either side may break off; that ends this connection and nothing else.
                let _ = pass(outside, behind, round_trip).await;
            });
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn pass(outside: TcpStream, behind: SocketAddr, round_trip: Duration) -> io::Result<()> {
    // The kernel has shaken hands with the client already; over a real link that takes one round trip.
    tokio::time::sleep(round_trip).await;
    let inside = TcpStream::connect(behind).await?;
    outside.set_nodelay(true)?;
    inside.set_nodelay(true)?;
    let (from_client, to_client) = outside.into_split();
    let (from_server, to_server) = inside.into_split();
    let one_way = round_trip / 2;
    tokio::try_join!(
        delayed(from_client, to_server, one_way),
        delayed(from_server, to_client, one_way)
    )?;
    Ok(())
}

/// One direction, to its end.
async fn delayed(from: OwnedReadHalf, to: OwnedWriteHalf, one_way: Duration) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(PIECES_UNDER_WAY);
    tokio::try_join!(take(from, sender, one_way), deliver(receiver, to))?;
    Ok(())
}

struct Piece {
    due: Instant,
    bytes: Bytes,
}

async fn take(
    mut from: OwnedReadHalf,
    sender: mpsc::Sender<Piece>,
    one_way: Duration,
) -> io::Result<()> {
    loop {
        let mut buffer = BytesMut::with_capacity(PIECE_BYTES);
        let ended = from.read_buf(&mut buffer).await? == 0;
        // The end of the stream takes as long as its bytes, and is a piece without any.
        let piece = Piece { due: Instant::now() + one_way, bytes: buffer.freeze() };
        if sender.send(piece).await.is_err() || ended {
            return Ok(());
        }
    }
}

async fn deliver(mut receiver: mpsc::Receiver<Piece>, mut to: OwnedWriteHalf) -> io::Result<()> {
    while let Some(Piece { due, bytes }) = receiver.recv().await {
        tokio::time::sleep_until(due).await;
        if bytes.is_empty() {
            to.shutdown().await?;
        } else {
            to.write_all(&bytes).await?;
        }
    }
    Ok(())
}
