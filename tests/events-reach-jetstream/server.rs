//! A real nats-server with a store of its own, ended by its handle and started again on its port.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) struct Server {
    folder: TempDir,
    port: u16,
    extra: String,
    child: Option<Child>,
}

impl Server {
    /// A server that runs.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// The same with further lines of configuration.
    pub(crate) fn start_with(extra: &str) -> Self {
        let mut server = Self::absent();
        server.extra = extra.to_owned();
        server.run();
        server
    }

    /// A server that does not run yet; its port is known.
    pub(crate) fn absent() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { folder, port, extra: String::new(), child: None }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn run(&mut self) {
        let store = self.store();
        self.run_as(&format!("jetstream {{ store_dir: {store:?}, sync_interval: always }}"));
    }

    /// Without JetStream.
    pub(crate) fn run_plain(&mut self) {
        self.run_as("");
    }

    fn run_as(&mut self, jetstream: &str) {
        assert!(self.child.is_none());
        let config = self.folder.path().join("nats.conf");
        let (port, extra) = (self.port, &self.extra);
        let text = format!("listen: \"127.0.0.1:{port}\"\n{jetstream}\n{extra}\n");
        std::fs::write(&config, text).unwrap();
        let child = Command::new(binary())
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|why| panic!("nats-server does not run ({why}): run `make test`"));
        self.child = Some(child);
        let until = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "nats-server does not listen");
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "nats-server ended by itself: {ended:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends the server a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// A copy of the store, made while the server does not run.
    pub(crate) fn copy_store(&self) -> TempDir {
        assert!(self.child.is_none());
        let copy = tempfile::tempdir().unwrap();
        copy_folder(&self.store(), copy.path());
        copy
    }

    /// Puts a copy back in place of the store.
    pub(crate) fn restore(&self, copy: &TempDir) {
        self.lose_store();
        copy_folder(copy.path(), &self.store());
    }

    pub(crate) fn lose_store(&self) {
        assert!(self.child.is_none());
        std::fs::remove_dir_all(self.store()).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("ASSENT_NATS_SERVER") {
        return named.into();
    }
    let installed =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/venv/bin/nats-server");
    if installed.exists() { installed } else { "nats-server".into() }
}
