//! A real NATS server with JetStream, killed and started again at will.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::{Ports, Process, tool, wait_for};

/// A `nats-server` on a free port with a store of its own that outlives its restarts.
#[derive(Debug)]
pub struct Nats {
    folder: tempfile::TempDir,
    addr: SocketAddr,
    process: Option<Process>,
    _ports: Ports,
}

impl Nats {
    /// Starts a server that syncs every write, as the reference configuration does.
    pub fn start() -> Self {
        Self::with_config("")
    }

    /// The same with further lines of configuration.
    pub fn with_config(further: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut ports = Ports::claim();
        let addr = SocketAddr::from(([127, 0, 0, 1], ports.pair()));
        let config = format!(
            "listen: \"{addr}\"\n\
             jetstream {{ store_dir: \"{}\", sync_interval: always }}\n{further}\n",
            folder.path().join("store").display(),
        );
        std::fs::write(folder.path().join("nats.conf"), config).expect("a configuration");
        let mut nats = Self { folder, addr, process: None, _ports: ports };
        nats.restart();
        nats
    }

    /// What a client connects to.
    pub fn url(&self) -> String {
        format!("nats://{}", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// It stays where it is and answers nothing, until [`Nats::wake`].
    pub fn freeze(&self) {
        self.process.as_ref().expect("it runs").signal("STOP");
    }

    /// Goes on.
    pub fn wake(&self) {
        self.process.as_ref().expect("it runs").signal("CONT");
    }

    /// Ends it in good order.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal("TERM");
            process.wait(Duration::from_secs(15));
        }
    }

    /// Ends it and loses all that it stored, as a lost disk would.
    pub fn lose_store(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.folder.path().join("store")).ok();
    }

    /// Starts it (again) on the same port with the same store, and waits until it answers.
    pub fn restart(&mut self) {
        self.process = None;
        let log = self.folder.path().join("nats.log");
        let mut command = Command::new(tool("nats-server"));
        command.arg("-c").arg(self.folder.path().join("nats.conf"));
        let mut process = Process::start("nats-server", &mut command, &log);
        wait_for(Duration::from_secs(20), "nats-server answers", || {
            assert!(process.ended().is_none(), "nats-server ended: {}", process.output());
            greets(self.addr)
        });
        self.process = Some(process);
    }
}

fn greets(addr: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&addr, Duration::from_secs(1)) else {
        return false;
    };
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok();
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).is_ok() && &greeting == b"INFO "
}
