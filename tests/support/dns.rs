//! A name server of a test's own: A and SRV records over UDP, and a count of who was asked for.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const A: u16 = 1;
const SRV: u16 = 33;

/// What is known of a name.
#[derive(Clone, Debug)]
pub enum Record {
    A(Ipv4Addr),
    /// Priority, weight, port, target.
    Srv(u16, u16, u16, &'static str),
}

/// A running name server. It ends with this value.
#[derive(Debug)]
pub struct Dns {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// Knows these names and no others; each record may be kept for `ttl` seconds.
    pub fn start(zone: Vec<(&'static str, Record)>, ttl: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        let addr = socket.local_addr().expect("bound");
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (asked, stop) = (Arc::clone(&asked), Arc::clone(&stop));
            move || {
                let mut buffer = [0; 1500];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                    let Some((name, kind, answer)) = answer(&buffer[..length], &zone, ttl) else {
                        continue;
                    };
                    asked.lock().unwrap().push(format!("{kind} {name}"));
                    socket.send_to(&answer, from).ok();
                }
            }
        });
        Self { addr, asked, stop, thread: Some(thread) }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How often a name was asked for, such as `SRV _sip._udp.pbx.test`.
    pub fn asked(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == what).count()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// The question's name and type, and the whole answer (RFC 1035, 4.1).
fn answer(
    query: &[u8],
    zone: &[(&'static str, Record)],
    ttl: u32,
) -> Option<(String, &'static str, Vec<u8>)> {
    let (mut name, mut at) = (String::new(), 12);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = std::str::from_utf8(query.get(at..at + length)?).ok()?;
        name.push_str(&format!("{}{label}", if name.is_empty() { "" } else { "." }));
        at += length;
    }
    let name = name.to_ascii_lowercase();
    let question = query.get(12..at + 4)?;
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    let known = zone.iter().any(|(owner, _)| *owner == name);
    let records: Vec<&Record> = zone
        .iter()
        .filter(|(owner, record)| {
            *owner == name
                && kind
                    == match record {
                        Record::A(_) => A,
                        Record::Srv(..) => SRV,
                    }
        })
        .map(|(_, record)| record)
        .collect();
    let mut out = query.get(..2)?.to_vec();
    // An authoritative answer; NXDOMAIN where the name is not known.
    out.extend([0x85, if known { 0x80 } else { 0x83 }, 0, 1]);
    out.extend(u16::try_from(records.len()).ok()?.to_be_bytes());
    out.extend([0; 4]);
    out.extend(question);
    for record in records {
        let data = match record {
            Record::A(ip) => ip.octets().to_vec(),
            Record::Srv(priority, weight, port, target) => {
                let mut data: Vec<u8> =
                    [priority, weight, port].iter().flat_map(|n| n.to_be_bytes()).collect();
                for label in target.split('.') {
                    data.push(u8::try_from(label.len()).ok()?);
                    data.extend(label.as_bytes());
                }
                data.push(0);
                data
            }
        };
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(ttl.to_be_bytes());
        out.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        out.extend(data);
    }
    let word = if kind == A {
        "A"
    } else if kind == SRV {
        "SRV"
    } else {
        "other"
    };
    Some((name, word, out))
}
