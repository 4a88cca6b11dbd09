//! The local control socket, `<data>/control.sock`: one JSON line each way.
//!
//! [`DataFolder::claim`] makes sure that one agent runs on a data folder; [`Server`] passes
//! requests to whoever holds the other end of a channel; [`ask`] is the client of the commands that
//! speak to a running agent: `assent status`, `drain`, `withdraw`, `pause` and `resume`.

mod calls;
mod claim;
mod client;
mod server;
mod wire;

pub use calls::{CallInProgress, CallList, OrderDone};
pub use claim::{ClaimError, DataFolder};
pub use client::{AskError, ask};
pub use server::{BindError, ControlRequest, Server};
pub use wire::{
    Command, Draining, ExportNote, ListChange, ListReply, ListStep, Reply, Status, StatusNeed,
    StatusNextHop,
};
