//! The agent's end of the control socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::control::claim::DataFolder;
use crate::control::wire::{Command, Reply};

const REQUEST_BYTES: u64 = 4096;
const CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(5);

/// A request that waits for an answer. Dropping `reply` refuses it.
#[derive(Debug)]
pub struct ControlRequest {
    /// What is asked.
    pub command: Command,
    /// Takes the answer.
    pub reply: oneshot::Sender<Reply>,
}

/// The control socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the control socket {} cannot be made ({why}); {}", path.display(), remedy(path))]
pub struct BindError {
    path: PathBuf,
    why: io::Error,
}

fn remedy(path: &std::path::Path) -> &'static str {
    // The address of a Unix socket holds 107 bytes (unix(7)).
    match path.as_os_str().len() > 100 {
        true => "its path is too long: set `data` to a folder with a shorter path",
        false => "set `data` to a folder that assent may write to",
    }
}

/// The agent's control socket: mode 0600, removed when it is dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    listener: UnixListener,
}

impl Server {
    /// Makes the socket. What a dead agent left in its place is replaced: that it is dead, the
    /// claim on the folder proves.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written, or its path is too long for a socket.
    pub fn bind(folder: &DataFolder) -> Result<Self, BindError> {
        let path = folder.control_socket();
        let failed = |why| BindError { path: path.clone(), why };
        // Under another name first, so that it is never there with another mode.
        let fresh = folder.path().join("control.new");
        match std::fs::remove_file(&fresh) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(failed(why)),
            _ => {}
        }
        let listener = UnixListener::bind(&fresh).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&fresh, mode).map_err(failed)?;
        std::fs::rename(&fresh, &path).map_err(failed)?;
        Ok(Self { path, listener })
    }

    /// Passes on what is asked, for as long as somebody takes it.
    pub async fn serve(self, requests: mpsc::Sender<ControlRequest>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let permit = Arc::clone(&room).acquire_owned().await;
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = requests.closed() => return,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors, say: that passes, or other parts of the agent notice.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let requests = requests.clone();
            tokio::spawn(async move {
                let _permit = permit;
                // A client that goes away or stalls harms nobody but itself.
                let _ = timeout(PATIENCE, answer(stream, requests)).await;
            });
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Where it stays, the next agent replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(stream: UnixStream, requests: mpsc::Sender<ControlRequest>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = Vec::new();
    BufReader::new(reader.take(REQUEST_BYTES)).read_until(b'\n', &mut line).await?;
    let reply = match serde_json::from_slice::<Command>(&line) {
        Ok(command) => pass_on(command, &requests).await,
        Err(why) => refused("malformed", format!("this is not a request: {why}")),
    };
    let mut text = serde_json::to_vec(&reply).map_err(io::Error::other)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

async fn pass_on(command: Command, requests: &mpsc::Sender<ControlRequest>) -> Reply {
    let (reply, answer) = oneshot::channel();
    let stopping = || refused("stopping", "the agent is stopping".to_owned());
    if requests.send(ControlRequest { command, reply }).await.is_err() {
        return stopping();
    }
    answer.await.unwrap_or_else(|_| stopping())
}

fn refused(code: &str, message: String) -> Reply {
    Reply::Refused { code: code.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::client::{AskError, ask};
    use crate::control::wire::Draining;
    use crate::time::Timestamp;

    async fn asked(path: PathBuf, command: Command) -> Result<Reply, AskError> {
        tokio::task::spawn_blocking(move || ask(&path, command, PATIENCE)).await.unwrap()
    }

    #[tokio::test]
    async fn a_request_reaches_the_agent_and_the_answer_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let folder = DataFolder::claim(home.path()).unwrap();
        // What an agent that died left behind.
        drop(std::os::unix::net::UnixListener::bind(folder.control_socket()).unwrap());
        let server = Server::bind(&folder).unwrap();
        let mode = folder.control_socket().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (requests, mut inbox) = mpsc::channel(1);
        let serving = tokio::spawn(server.serve(requests));
        let agent = tokio::spawn(async move {
            let request: ControlRequest = inbox.recv().await.unwrap();
            assert_eq!(request.command, Command::Drain {});
            let reply = Reply::Draining(Draining { calls: 3, until: Timestamp::EPOCH });
            request.reply.send(reply).unwrap();
            drop(inbox.recv().await);
        });
        let path = folder.control_socket();
        let reply = asked(path.clone(), Command::Drain {}).await.unwrap();
        assert_eq!(reply, Reply::Draining(Draining { calls: 3, until: Timestamp::EPOCH }));
        // The agent drops the second request, and stops.
        let reply = asked(path.clone(), Command::Status {}).await.unwrap();
        assert!(matches!(reply, Reply::Refused { code, .. } if code == "stopping"));
        agent.await.unwrap();
        serving.await.unwrap();
        assert!(!path.exists());
        assert!(matches!(asked(path, Command::Status {}).await, Err(AskError::NoAgent { .. })));
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused_and_the_next_one_works() {
        let home = tempfile::tempdir().unwrap();
        let folder = DataFolder::claim(home.path()).unwrap();
        let server = Server::bind(&folder).unwrap();
        let (requests, mut inbox) = mpsc::channel::<ControlRequest>(1);
        tokio::spawn(server.serve(requests));
        for bad in [&b"nonsense\n"[..], b"\xff\xfe\n", &[b'['; 5000], b"\n"] {
            let mut stream = UnixStream::connect(folder.control_socket()).await.unwrap();
            stream.write_all(bad).await.unwrap();
            let mut answer = String::new();
            // A peer that says too much may find the door shut before it has read the answer.
            let _ = stream.read_to_string(&mut answer).await;
            assert!(answer.is_empty() || answer.contains("malformed"), "{answer}");
        }
        tokio::spawn(async move {
            let request = inbox.recv().await.unwrap();
            let _ = request.reply.send(refused("busy", "wait".to_owned()));
        });
        let reply = asked(folder.control_socket(), Command::Status {}).await.unwrap();
        assert_eq!(reply, refused("busy", "wait".to_owned()));
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_named_with_the_remedy() {
        let home = tempfile::tempdir().unwrap();
        let folder = DataFolder::claim(&home.path().join("x".repeat(120))).unwrap();
        let said = Server::bind(&folder).unwrap_err().to_string();
        assert!(said.contains("shorter path"), "{said}");
    }
}
