//! UDP: one socket a listener, read in batches.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use sipx_sip::parse_datagram;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::sip::arrival::{Arrival, Channel, Intake, Origin};
use crate::sip::refuse;
use crate::sip::text::contains;

/// Datagrams read before other tasks get their turn.
const BATCH: usize = 64;

/// Opens a socket with a receive buffer of `buffer` bytes, or as much as the system grants.
pub(super) fn bind(addr: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The system caps it at net.core.rmem_max; less is no reason not to start.
    if socket.set_recv_buffer_size(buffer).is_err()
        || socket.recv_buffer_size().is_ok_and(|granted| granted < buffer)
    {
        tracing::info!(%addr, asked = buffer, "the receive buffer is smaller than asked for; raise net.core.rmem_max");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

/// Reads until the edge ends.
pub(super) async fn read(socket: Arc<UdpSocket>, listener: usize, intake: Intake) {
    let mut buffer = vec![0; 65_535];
    loop {
        if let Err(error) = socket.readable().await {
            tracing::error!(%error, "a SIP socket is gone");
            return;
        }
        for _ in 0..BATCH {
            match socket.try_recv_from(&mut buffer) {
                Ok((length, source)) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    if let Some(arrival) = take(datagram, source, &socket, listener, &intake)
                        && intake.arrivals.send(arrival).await.is_err()
                    {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error of an earlier datagram, or a moment without memory.
                Err(error) => tracing::debug!(%error, "receiving over UDP"),
            }
        }
        tokio::task::yield_now().await;
    }
}

fn take(
    datagram: &[u8],
    source: SocketAddr,
    socket: &UdpSocket,
    listener: usize,
    intake: &Intake,
) -> Option<Arrival> {
    // Keep-alives: CRLFs, or a few zero bytes.
    if datagram.iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return None;
    }
    // A stranger may answer a request of ours, which only somebody who saw it can do.
    let answers_us = || {
        datagram.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"))
            && contains(datagram, intake.secret.cookie())
    };
    if !intake.peers.contains(source.ip()) && !answers_us() {
        intake.ignore(source);
        return None;
    }
    match parse_datagram(Bytes::copy_from_slice(datagram), &intake.parsing) {
        Ok(message) => {
            let origin = Origin { channel: Channel::Udp(listener), source };
            Some(Arrival::Message(Box::new(message), origin))
        }
        Err(error) => {
            intake.counters.parse_errors.add();
            tracing::debug!(%source, %error, "a datagram does not parse");
            let status = refuse::status_for(&error);
            let salvaged = refuse::salvage(datagram, source)?;
            let answer = salvaged.answer(status, &intake.secret, &intake.product)?;
            intake.counters.response_out(status);
            if socket.try_send_to(&answer, salvaged.reply_to).is_err() {
                intake.counters.send_errors.add();
            }
            None
        }
    }
}

/// Sends one message. UDP gives no promise, so a full send buffer is a lost datagram: the
/// retransmission makes up for it.
///
/// # Errors
/// Those that say that no datagram will ever get there, such as an unreachable network.
pub(super) fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
    match socket.try_send_to(bytes, to) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        // The answer to an earlier datagram, reported at the next call.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
    }
}
