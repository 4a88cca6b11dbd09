//! The `assent` binary: parse arguments, run, exit code.

use std::net::SocketAddr;
use std::time::Duration;

use assent::agent::{self, Agent, Blame, StartError};
use assent::call::message::Transport;
use assent::cli::{self, Failure};
use assent::config::{Config, Loaded};

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os(), Program)
}

/// What the commands are given of the agent.
struct Program;

impl cli::Serve for Program {
    type Agent = Performer;

    fn serve(self, loaded: Loaded) -> Result<(), Failure> {
        agent::run(loaded).map_err(failure)
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
        self.0.stop(Duration::ZERO).await;
    }
}

fn failure(why: StartError) -> Failure {
    match why.blame() {
        Blame::Configuration => Failure::Usage(why.to_string()),
        Blame::Surroundings => Failure::unavailable(why),
    }
}
