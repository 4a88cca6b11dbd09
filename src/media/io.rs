//! Datagrams in and out of sockets, several in one system call where the system can.
//!
//! The one module that may use `unsafe`. There are two paths with one behaviour: [`IoPath::Batched`]
//! (`recvmmsg` and `sendmmsg`, Linux) and [`IoPath::Portable`] (one call a datagram).

use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;

use crate::rtp::{FIXED_HEADER, Header};

/// How many datagrams are read at a time: more than a stream has waiting but after a stall, and few
/// enough that to prepare for them costs next to nothing.
pub(super) const BATCH: usize = 4;

/// The longest datagram that is taken, in bytes. Audio never comes near an Ethernet frame.
pub(super) const LONGEST: usize = 1600;

/// Which system calls move the datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoPath {
    /// Several datagrams in one call. Where the system has no such calls it is as `Portable`.
    Batched,
    /// One datagram in one call, through the standard library.
    Portable,
}

/// Room for one batch of received datagrams, used over and over.
pub(super) struct Inbox {
    path: IoPath,
    buffers: Box<[[u8; LONGEST]; BATCH]>,
    received: [Received; BATCH],
    count: usize,
}

#[derive(Clone, Copy)]
struct Received {
    length: usize,
    from: Option<SocketAddr>,
}

/// One datagram to send: a header of ours and a payload that stays where it is.
#[derive(Clone, Copy, Default)]
pub(super) struct Outbound<'a> {
    pub(super) header: Header,
    pub(super) payload: &'a [u8],
}

/// Whether a socket may have more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Perhaps,
    /// The next datagram brings another readiness event.
    Nothing,
}

impl Inbox {
    pub(super) fn new(path: IoPath) -> Self {
        let none = Received { length: 0, from: None };
        Self { path, buffers: Box::new([[0; LONGEST]; BATCH]), received: [none; BATCH], count: 0 }
    }

    /// Reads up to [`BATCH`] datagrams in place of those that were here. Errors of the network
    /// are not the socket's end: they count as nothing read.
    pub(super) fn fill(&mut self, socket: &UdpSocket) -> Left {
        self.count = 0;
        match self.path {
            #[cfg(target_os = "linux")]
            IoPath::Batched => self.fill_batched(socket),
            _ => self.fill_portable(socket),
        }
    }

    /// The datagrams of the last [`fill`](Self::fill) and where each came from.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        let read = self.buffers.iter().zip(&self.received).take(self.count);
        // One that fills its buffer was longer, and is cut: it is none.
        read.filter(|(_, received)| received.length < LONGEST)
            .filter_map(|(bytes, received)| Some((bytes.get(..received.length)?, received.from?)))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn fill_portable(&mut self, socket: &UdpSocket) -> Left {
        for (buffer, received) in self.buffers.iter_mut().zip(&mut self.received) {
            match retry(|| socket.recv_from(buffer)) {
                Ok((length, from)) => *received = Received { length, from: Some(from) },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Left::Nothing,
                // The error is consumed, and there may be datagrams behind it.
                Err(_) => return Left::Perhaps,
            }
            self.count += 1;
        }
        Left::Perhaps
    }

    #[cfg(target_os = "linux")]
    fn fill_batched(&mut self, socket: &UdpSocket) -> Left {
        let mut lengths = [0; BATCH];
        let mut sources = [None; BATCH];
        match retry(|| batched::receive(socket, &mut self.buffers, &mut lengths, &mut sources)) {
            Ok(count) => {
                self.count = count.min(BATCH);
                for (received, (length, from)) in
                    self.received.iter_mut().zip(lengths.into_iter().zip(sources))
                {
                    *received = Received { length, from };
                }
                if count < BATCH { Left::Nothing } else { Left::Perhaps }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Left::Nothing,
            Err(_) => Left::Perhaps,
        }
    }
}

/// Sends datagrams to one address and returns how many left: the first so many of `outbound`.
pub(super) fn send(
    path: IoPath,
    socket: &UdpSocket,
    to: SocketAddr,
    outbound: &[Outbound<'_>],
) -> usize {
    match (path, outbound) {
        (_, []) => 0,
        // One alone costs less as a plain datagram.
        #[cfg(target_os = "linux")]
        (IoPath::Batched, [_, _, ..]) => outbound
            .chunks(BATCH)
            .map(|chunk| retry(|| batched::send(socket, to, chunk)).unwrap_or(0))
            .sum(),
        (_, _) => outbound
            .iter()
            .take_while(|one| {
                let mut datagram = [0; FIXED_HEADER + LONGEST];
                let end = FIXED_HEADER + one.payload.len();
                let (Some(header), true) =
                    (datagram.first_chunk_mut::<FIXED_HEADER>(), end <= FIXED_HEADER + LONGEST)
                else {
                    return false;
                };
                *header = *one.header.as_bytes();
                if let Some(space) = datagram.get_mut(FIXED_HEADER..end) {
                    space.copy_from_slice(one.payload);
                }
                let datagram = datagram.get(..end).unwrap_or_default();
                retry(|| socket.send_to(datagram, to)).is_ok()
            })
            .count(),
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod batched {
    use std::io;
    use std::mem::{MaybeUninit, size_of};
    use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
    use std::os::fd::AsRawFd;
    use std::ptr;

    use libc::{c_uint, c_void, iovec, mmsghdr, sockaddr_storage, socklen_t};
    use mio::net::UdpSocket;
    use socket2::SockAddr;

    use super::{BATCH, LONGEST, Outbound};
    use crate::rtp::FIXED_HEADER;

    /// `recvmmsg` without waiting.
    pub(super) fn receive(
        socket: &UdpSocket,
        buffers: &mut [[u8; LONGEST]; BATCH],
        lengths: &mut [usize; BATCH],
        sources: &mut [Option<SocketAddr>; BATCH],
    ) -> io::Result<usize> {
        // SAFETY: both are plain C structures without references, for which all zeroes is a valid
        // value (null pointers, zero lengths, address family 0).
        let mut addresses: [sockaddr_storage; BATCH] =
            unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: as above.
        let mut messages: [mmsghdr; BATCH] = unsafe { MaybeUninit::zeroed().assume_init() };
        let mut spaces = buffers.each_mut().map(|buffer| iovec {
            iov_base: buffer.as_mut_ptr().cast::<c_void>(),
            iov_len: LONGEST,
        });
        for ((message, space), address) in messages.iter_mut().zip(&mut spaces).zip(&mut addresses)
        {
            message.msg_hdr.msg_iov = ptr::from_mut(space);
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_name = ptr::from_mut(address).cast::<c_void>();
            message.msg_hdr.msg_namelen = size_of::<sockaddr_storage>() as socklen_t;
        }
        // SAFETY: `messages` has BATCH entries. Each points to its own iovec in `spaces` and its
        // own address in `addresses`; each iovec to its own buffer of LONGEST bytes. All of them
        // live until after the call, nothing else touches them during it, and the kernel keeps
        // none of the pointers. The descriptor is open: `socket` is borrowed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        let results = lengths.iter_mut().zip(sources);
        for ((length, source), (message, address)) in
            results.zip(messages.iter().zip(&addresses)).take(count)
        {
            *length = (message.msg_len as usize).min(LONGEST);
            *source = decode(address);
        }
        Ok(count)
    }

    /// `sendmmsg` without waiting, of at most [`BATCH`] datagrams.
    pub(super) fn send(
        socket: &UdpSocket,
        to: SocketAddr,
        outbound: &[Outbound<'_>],
    ) -> io::Result<usize> {
        let to = SockAddr::from(to);
        let none = iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        let mut parts = [[none; 2]; BATCH];
        // SAFETY: a plain C structure without references, for which all zeroes is a valid value.
        let mut messages: [mmsghdr; BATCH] = unsafe { MaybeUninit::zeroed().assume_init() };
        for ((message, parts), one) in messages.iter_mut().zip(&mut parts).zip(outbound) {
            // The kernel only reads through these, although C has no const iovec.
            *parts = [
                iovec {
                    iov_base: one.header.as_bytes().as_ptr().cast_mut().cast::<c_void>(),
                    iov_len: FIXED_HEADER,
                },
                iovec {
                    iov_base: one.payload.as_ptr().cast_mut().cast::<c_void>(),
                    iov_len: one.payload.len(),
                },
            ];
            message.msg_hdr.msg_iov = parts.as_mut_ptr();
            message.msg_hdr.msg_iovlen = 2;
            message.msg_hdr.msg_name = to.as_ptr().cast_mut().cast::<c_void>();
            message.msg_hdr.msg_namelen = to.len();
        }
        let count = outbound.len().min(BATCH);
        // SAFETY: the first `count` entries of `messages` were filled in above (`zip` stops at the
        // shortest, and `count` is no more than BATCH and `outbound.len()`). Each points to its own
        // two iovecs, and those to a header and a payload that `outbound` borrows; `to` lives until
        // the end of this function. The kernel only reads and keeps none of the pointers. The
        // descriptor is open: `socket` is borrowed.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count as c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn decode(address: &sockaddr_storage) -> Option<SocketAddr> {
        match i32::from(address.ss_family) {
            libc::AF_INET => {
                // SAFETY: a `sockaddr_storage` is as large as and aligned for every kind of
                // address (POSIX), the family says which kind the kernel wrote, and any bytes are
                // valid numbers.
                let v4 = unsafe { &*ptr::from_ref(address).cast::<libc::sockaddr_in>() };
                let ip = u32::from_be(v4.sin_addr.s_addr);
                Some(SocketAddrV4::new(ip.into(), u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let v6 = unsafe { &*ptr::from_ref(address).cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::{Outgoing, RtpPacket};
    use std::time::{Duration, Instant};

    const PATHS: [IoPath; 2] = [IoPath::Batched, IoPath::Portable];

    fn socket(at: &str) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind(at.parse().unwrap()).unwrap();
        let at = socket.local_addr().unwrap();
        (socket, at)
    }

    fn fill(inbox: &mut Inbox, socket: &UdpSocket) -> Vec<(Vec<u8>, SocketAddr)> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            inbox.fill(socket);
            if inbox.len() > 0 {
                break;
            }
        }
        inbox.datagrams().map(|(bytes, from)| (bytes.to_vec(), from)).collect()
    }

    #[test]
    fn what_is_sent_is_received_whole_in_order_and_with_its_source() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            for (out_path, in_path) in PATHS.into_iter().zip([IoPath::Portable, IoPath::Batched]) {
                let ((here, from), (there, to)) = (socket(at), socket(at));
                let payloads: Vec<Vec<u8>> =
                    (0..BATCH + 3).map(|n| vec![n as u8; n * 10]).collect();
                let mut stream = Outgoing::new(7, 0, 0, 8000);
                let outbound: Vec<_> = payloads
                    .iter()
                    .map(|payload| Outbound {
                        header: stream.local(0, 160, Instant::now()),
                        payload,
                    })
                    .collect();
                assert_eq!(send(out_path, &here, to, &outbound), BATCH + 3);
                let mut inbox = Inbox::new(in_path);
                let mut got = Vec::new();
                while got.len() < BATCH + 3 {
                    let more = fill(&mut inbox, &there);
                    assert!(!more.is_empty(), "{} datagrams came", got.len());
                    got.extend(more);
                }
                for (n, (bytes, source)) in got.iter().enumerate() {
                    let packet = RtpPacket::parse(bytes).unwrap();
                    assert_eq!(packet.payload(), payloads[n]);
                    assert_eq!(usize::from(packet.sequence()), n + 1);
                    assert_eq!(*source, from);
                }
                assert_eq!(inbox.fill(&there), Left::Nothing);
            }
        }
    }

    #[test]
    fn a_datagram_longer_than_any_audio_is_not_given_out_cut() {
        for path in PATHS {
            let ((here, _), (there, to)) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
            here.send_to(&[0x80; LONGEST + 1], to).unwrap();
            here.send_to(&[0x80; 20], to).unwrap();
            let mut inbox = Inbox::new(path);
            let mut got = fill(&mut inbox, &there);
            if got.is_empty() {
                got = fill(&mut inbox, &there);
            }
            assert_eq!(got.len(), 1);
            assert_eq!(got[0].0.len(), 20);
        }
    }

    #[test]
    fn what_cannot_be_sent_is_not_counted_as_sent() {
        for path in PATHS {
            let (here, _) = socket("127.0.0.1:0");
            let header = Outgoing::new(7, 0, 0, 8000).local(0, 160, Instant::now());
            let outbound = [Outbound { header, payload: &[0; 160] }];
            assert_eq!(send(path, &here, "[::1]:9".parse().unwrap(), &outbound), 0);
        }
    }
}
