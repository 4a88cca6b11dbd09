//! The `assent` binary: parse arguments, run, exit code.

use std::net::SocketAddr;
use std::time::Duration;

use assent::agent::{self, Agent, Blame, RunError, StartError};
use assent::call::message::Transport;
use assent::cli::{self, Failure};
use assent::config::{Config, Loaded};
use assent::keys;

fn main() -> std::process::ExitCode {
    // Before anything that is secret is read. Some commands read keys as well.
    if let Err(why) = keys::forbid_dumps() {
        return Failure::unavailable(format!("core dumps cannot be forbidden: {why}")).report();
    }
    cli::run(std::env::args_os(), Program)
}

/// What the commands are given of the agent.
struct Program;

impl cli::Serve for Program {
    type Agent = Performer;

    fn serve(self, loaded: Loaded) -> Result<(), Failure> {
        agent::run(loaded).map_err(|why| match why {
            RunError::Start(why) => failure(why),
            RunError::Broke(_) => Failure::Failed(why.to_string()),
        })
    }

    async fn start(self, config: Config) -> Result<Performer, Failure> {
        Agent::start(config).await.map(Performer).map_err(failure)
    }
}

/// The agent of a demonstration.
struct Performer(Agent);

impl cli::Running for Performer {
    fn sip(&self) -> Option<SocketAddr> {
        let udp = self.0.listeners().iter().find(|l| l.transport == Transport::Udp);
        udp.map(|listener| listener.addr)
    }

    async fn stop(self) {
        if let Err(why) = self.0.stop(Duration::ZERO).await {
            tracing::error!("{why} had ended by itself");
        }
    }
}

fn failure(why: StartError) -> Failure {
    match why.blame() {
        Blame::Configuration => Failure::Usage(why.to_string()),
        Blame::Surroundings => Failure::unavailable(why),
    }
}
