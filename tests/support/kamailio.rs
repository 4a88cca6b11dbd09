//! Kamailio as a peer, with the configuration that is shipped for it: only its addresses are
//! other ones.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{Ports, Process, tool, wait_for};

/// A running Kamailio.
#[derive(Debug)]
pub struct Kamailio {
    folder: tempfile::TempDir,
    addr: SocketAddr,
    process: Process,
}

/// A file of `config/pbx/`.
pub fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/pbx").join(name)
}

/// An address for a Kamailio that is started later. The slice of ports must live as long.
pub fn address(ports: &mut Ports) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, ports.pair()))
}

impl Kamailio {
    /// Starts it at `addr`, with an Assent at `assent`. `defines` are switches of the
    /// configuration, such as `ASSENT_OR_NOTHING`.
    pub fn start(addr: SocketAddr, assent: SocketAddr, defines: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let list = std::fs::read_to_string(shipped("kamailio-dispatcher.list")).expect("the list");
        assert!(list.contains("sip:127.0.0.1:5070 "), "{list}");
        let list = list.replace("127.0.0.1:5070", &assent.to_string());
        let file = folder.path().join("kamailio-dispatcher.list");
        std::fs::write(&file, list).expect("a list");
        let mut command = Command::new(tool("kamailio"));
        command.arg("-f").arg(shipped("kamailio.cfg")).args(["-DD", "-E", "-m", "32", "-Y"]);
        command.arg(folder.path()).arg("-w").arg(folder.path());
        command
            .args(["-A", &format!("LISTEN=udp:{addr}")])
            .args(["-A", &format!("ASSENT_LIST=\"{}\"", file.display())])
            .args(["-A", &format!("CONTROL=\"unix:{}\"", folder.path().join("ctl").display())])
            .args(["-A", "ASSENT_PROBE_EVERY=1"]);
        for define in defines {
            command.args(["-A", define]);
        }
        let process = Process::start("kamailio", &mut command, &folder.path().join("kamailio.log"));
        let mut this = Self { folder, addr, process };
        wait_for(Duration::from_secs(15), "kamailio answers", || {
            assert!(this.process.ended().is_none(), "kamailio ended: {}", this.process.output());
            this.control("core.uptime").is_some()
        });
        this
    }

    /// Where it listens, over UDP.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A user of its.
    pub fn uri(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.addr)
    }

    /// Registers a telephone at `contact` under this user, in place of all others.
    pub fn register(&self, user: &str, contact: &str) {
        self.register_all(user, &[contact]);
    }

    /// Registers several telephones, which are called together, in place of all others.
    pub fn register_all(&self, user: &str, contacts: &[&str]) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a time-out");
        let (here, there) = (socket.local_addr().expect("bound"), self.addr);
        let mut number = 0;
        let contacts: Vec<String> = contacts.iter().map(|uri| format!("<{uri}>")).collect();
        let contacts = format!("{}\r\nExpires: 600", contacts.join(", "));
        for contact in ["*\r\nExpires: 0", &contacts] {
            wait_for(Duration::from_secs(10), "kamailio registers a telephone", || {
                number += 1;
                let request = format!(
                    "REGISTER sip:{there} SIP/2.0\r\n\
                     Via: SIP/2.0/UDP {here};branch=z9hG4bK{number}\r\n\
                     From: <sip:{user}@{there}>;tag=1\r\nTo: <sip:{user}@{there}>\r\n\
                     Call-ID: {here}\r\nCSeq: {number} REGISTER\r\nMax-Forwards: 70\r\n\
                     Contact: {contact}\r\nContent-Length: 0\r\n\r\n"
                );
                socket.send_to(request.as_bytes(), there).expect("sent");
                let mut answer = [0; 4096];
                let length = socket.recv(&mut answer).unwrap_or(0);
                answer[..length].starts_with(b"SIP/2.0 200")
            });
        }
    }

    /// Waits until its probes have found Assent there, or away.
    #[track_caller]
    pub fn wait_until_assent_is(&self, there: bool) {
        let flags = if there { "FLAGS: AP" } else { "FLAGS: IP" };
        wait_for(Duration::from_secs(30), &format!("kamailio says {flags}"), || {
            self.control("dispatcher.list").is_some_and(|list| list.contains(flags))
        });
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// What `kamcmd` prints, as an administrator would ask.
    fn control(&self, command: &str) -> Option<String> {
        let socket = format!("unix:{}", self.folder.path().join("ctl").display());
        let output = Command::new(tool("kamcmd")).args(["-s", &socket, command]).output();
        let output = output.expect("kamcmd runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Kamailio {
    /// A killed Kamailio leaves its children: it is asked to end.
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            self.process.signal("TERM");
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            while self.process.ended().is_none() && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
