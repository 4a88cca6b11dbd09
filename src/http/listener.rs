//! Takes the port, and bounds how many connections there are.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::config::{Http, Secret};

/// More connections than probes and a scraper or two have use for; further ones wait.
const CONNECTIONS: usize = 64;
/// How long a connection may take for a request, from its beginning or from the last answer, and
/// for an answer. One that takes longer gives its place to another.
const PATIENCE: Duration = Duration::from_secs(30);

/// The port of `[http]` could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("http.listen: {addr} cannot be taken ({why}); {remedy}")]
pub struct BindError {
    addr: SocketAddr,
    why: io::Error,
    remedy: &'static str,
}

/// A port that is taken but not served yet.
#[derive(Debug)]
pub struct Bound {
    pub(super) listener: TcpListener,
    pub(super) addr: SocketAddr,
    pub(super) password: Option<Secret>,
}

impl Bound {
    /// The address, with the port that the system chose if the configuration says 0.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Takes the port.
///
/// # Errors
///
/// When it is taken already, not ours to take, or the address is not on this machine. The
/// message names the remedy.
pub async fn bind(http: &Http) -> Result<Bound, BindError> {
    let addr = http.listen;
    let failed = |why: io::Error| BindError { addr, remedy: remedy(&why), why };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, addr, password: http.password.clone() })
}

fn remedy(why: &io::Error) -> &'static str {
    match why.kind() {
        io::ErrorKind::AddrInUse => {
            "stop the program that has it, or set http.listen to another port"
        }
        io::ErrorKind::AddrNotAvailable => "set http.listen to an address of this machine",
        io::ErrorKind::PermissionDenied => "set http.listen to a port from 1024 on",
        _ => "set http.listen to another address",
    }
}

/// A listener that keeps at most [`CONNECTIONS`] open.
pub(super) struct Bounded {
    inner: TcpListener,
    room: Arc<Semaphore>,
}

impl Bounded {
    pub(super) fn new(inner: TcpListener) -> Self {
        Self { inner, room: Arc::new(Semaphore::new(CONNECTIONS)) }
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = loop {
            // The semaphore is never closed.
            if let Ok(permit) = Arc::clone(&self.room).acquire_owned().await {
                break permit;
            }
        };
        let (stream, addr) = axum::serve::Listener::accept(&mut self.inner).await;
        (
            Connection { stream, until: Box::pin(tokio::time::sleep(PATIENCE)), _permit: permit },
            addr,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection that holds one of the places, for as long as it makes use of it.
pub(super) struct Connection {
    stream: TcpStream,
    until: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// The same, or an end to the waiting when there has been enough of it.
    fn or_enough<T>(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match progress {
            Poll::Pending => {
                self.until.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            ready => ready,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.or_enough(cx, progress)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, buf);
        if progress.is_ready() {
            let until = crate::clock::now() + PATIENCE;
            self.until.as_mut().reset(until.into());
        }
        self.or_enough(cx, progress)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::serve::Listener;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_nothing_gives_its_place_away() {
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = inner.local_addr().unwrap();
        let mut bounded = Bounded::new(inner);
        let _silent = TcpStream::connect(addr).await.unwrap();
        let (mut connection, _) = bounded.accept().await;
        let ended = connection.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
    }
}
