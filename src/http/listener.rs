//! Takes the port, and bounds how many connections there are.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Http, Secret};

/// More connections than probes and a scraper or two have use for; further ones wait.
const CONNECTIONS: usize = 64;

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
        (Connection { stream, _permit: permit }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection that holds one of the places.
pub(super) struct Connection {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
