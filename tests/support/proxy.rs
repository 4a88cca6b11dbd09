//! A small UDP proxy that loses, delays and doubles datagrams.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// From a client to the target.
    Target,
    /// Back to the client.
    Client,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Drop,
    Twice,
    After(Duration),
    /// To another target, whose answers find their way back as well.
    To(SocketAddr),
}

/// Stands between clients and one target. SIP through it needs `rport` or a `Via` that names the
/// proxy, as answers follow the `Via`.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free loopback port and asks `judge` about every datagram.
    pub fn start(
        target: SocketAddr,
        judge: impl FnMut(Toward, &[u8]) -> Verdict + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = socket.local_addr().expect("its address");
        let ends = Arc::new(AtomicBool::new(false));
        let thread = {
            let ends = Arc::clone(&ends);
            std::thread::spawn(move || run(&socket, target, judge, &ends))
        };
        Self { addr, ends, thread: Some(thread) }
    }

    /// Where clients send to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Loses every `n`th datagram of each direction, beginning with the first.
pub fn lose_every(n: usize) -> impl FnMut(Toward, &[u8]) -> Verdict + Send {
    let mut seen = [0usize; 2];
    move |toward, _| {
        let count = &mut seen[usize::from(toward == Toward::Client)];
        *count += 1;
        if *count % n == 1 { Verdict::Drop } else { Verdict::Pass }
    }
}

struct Late {
    due: Instant,
    from: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Vec<u8>,
}

fn run(
    socket: &UdpSocket,
    target: SocketAddr,
    mut judge: impl FnMut(Toward, &[u8]) -> Verdict,
    ends: &AtomicBool,
) {
    let outside = Arc::new(socket.try_clone().expect("a second handle"));
    outside.set_nonblocking(true).expect("a non-blocking socket");
    // One socket a client, so that the target's answers find their way back.
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut late: Vec<Late> = Vec::new();
    let mut buffer = vec![0; 65_536];
    while !ends.load(Ordering::Relaxed) {
        let mut idle = true;
        while let Ok((length, client)) = outside.recv_from(&mut buffer) {
            idle = false;
            let inside = clients.entry(client).or_insert_with(|| {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
                socket.set_nonblocking(true).expect("a non-blocking socket");
                Arc::new(socket)
            });
            let verdict = judge(Toward::Target, &buffer[..length]);
            deliver(verdict, inside, target, &buffer[..length], &mut late);
        }
        for (client, inside) in &clients {
            while let Ok((length, _)) = inside.recv_from(&mut buffer) {
                idle = false;
                let verdict = judge(Toward::Client, &buffer[..length]);
                deliver(verdict, &outside, *client, &buffer[..length], &mut late);
            }
        }
        let now = Instant::now();
        late.retain(|l| l.due > now || l.from.send_to(&l.bytes, l.to).is_err());
        if idle {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn deliver(
    verdict: Verdict,
    from: &Arc<UdpSocket>,
    to: SocketAddr,
    bytes: &[u8],
    late: &mut Vec<Late>,
) {
    let times = match verdict {
        Verdict::Drop => 0,
        Verdict::Pass => 1,
        Verdict::To(other) => {
            from.send_to(bytes, other).ok();
            0
        }
        Verdict::Twice => 2,
        Verdict::After(delay) => {
            let due = Instant::now() + delay;
            late.push(Late { due, from: Arc::clone(from), to, bytes: bytes.to_vec() });
            0
        }
    };
    for _ in 0..times {
        from.send_to(bytes, to).ok();
    }
}

/// What the proxy let through, for tests that count.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Vec<Passed>>>);

/// A datagram and its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    pub toward: Toward,
    pub bytes: Vec<u8>,
}

impl Tally {
    /// Passes everything and writes it down.
    pub fn judge(&self) -> impl FnMut(Toward, &[u8]) -> Verdict + Send + 'static {
        let seen = Arc::clone(&self.0);
        move |toward, bytes| {
            seen.lock()
                .expect("no test panics inside")
                .push(Passed { toward, bytes: bytes.to_vec() });
            Verdict::Pass
        }
    }

    /// Everything so far.
    pub fn seen(&self) -> Vec<Passed> {
        self.0.lock().expect("no test panics inside").clone()
    }
}
