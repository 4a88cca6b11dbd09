//! The transactions in flight, as the edge knows them: which number, which way, which keys.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use sipx_sip::TransactionKey;

use crate::call::message::{ClientTxn, Headers, Reached, Request};
use crate::sip::arrival::Channel;
use crate::sip::plan::Plan;

/// One transaction.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) key: Arc<TransactionKey>,
    pub(super) side: Side,
}

/// Which of the two ends of it we are.
#[derive(Debug)]
pub(super) enum Side {
    Server(Server),
    Client(Client),
}

/// A request that we answer.
#[derive(Debug)]
pub(super) struct Server {
    /// The way back.
    pub(super) channel: Channel,
    /// Where a response over UDP goes, or a new connection for it.
    pub(super) reply_to: SocketAddr,
    /// Where the request came from.
    pub(super) source: SocketAddr,
    /// Its entry among the requests that could come again by another way.
    pub(super) fingerprint: Option<[u8; 16]>,
    /// The tag that our responses bear.
    pub(super) tag: Option<String>,
    pub(super) cancelled: Cancelled,
}

/// Whether a CANCEL has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancelled {
    No,
    Yes,
}

/// A request of ours.
#[derive(Debug)]
pub(super) struct Client {
    /// Who asked for it. A CANCEL is the edge's own.
    pub(super) asked_by: Option<ClientTxn>,
    pub(super) channel: Channel,
    pub(super) hop: SocketAddr,
    pub(super) cancel: Cancel,
    /// What the CANCEL says besides.
    pub(super) parting: Headers,
    pub(super) errand: Errand,
}

/// What becomes of a request of ours that finds nobody.
#[derive(Debug)]
pub(super) enum Errand {
    /// It has failed.
    Single,
    /// There are other ways.
    Planned(Box<Plan>),
    /// It went here, and has its final answer, which may come again.
    Settled(Box<Reached>),
    /// It has gone another way already. Should this one be answered after all, it is ended with
    /// what it said.
    Abandoned(Box<Request>),
}

/// How far a cancellation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    NotAsked,
    /// Asked for, and waiting for a provisional response (RFC 3261, 9.1).
    Wanted,
    Sent,
}

/// All of them, by each of their names.
#[derive(Debug, Default)]
pub(super) struct Table {
    all: HashMap<u64, Transaction>,
    servers: HashMap<Arc<TransactionKey>, u64>,
    clients: HashMap<Arc<TransactionKey>, u64>,
    asked: HashMap<ClientTxn, u64>,
    fingerprints: HashMap<[u8; 16], u64>,
    last: u64,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn insert_server(&mut self, key: TransactionKey, server: Server) -> u64 {
        let (serial, key) = self.next(key);
        self.servers.insert(key.clone(), serial);
        if let Some(fingerprint) = server.fingerprint {
            self.fingerprints.insert(fingerprint, serial);
        }
        self.all.insert(serial, Transaction { key, side: Side::Server(server) });
        serial
    }

    pub(super) fn insert_client(&mut self, key: TransactionKey, client: Client) -> u64 {
        let (serial, key) = self.next(key);
        self.clients.insert(key.clone(), serial);
        if let Some(txn) = client.asked_by {
            self.asked.insert(txn, serial);
        }
        self.all.insert(serial, Transaction { key, side: Side::Client(client) });
        serial
    }

    fn next(&mut self, key: TransactionKey) -> (u64, Arc<TransactionKey>) {
        self.last += 1;
        (self.last, Arc::new(key))
    }

    pub(super) fn remove(&mut self, serial: u64) -> Option<Transaction> {
        let transaction = self.all.remove(&serial)?;
        match &transaction.side {
            Side::Server(server) => {
                self.servers.remove(&transaction.key);
                if let Some(fingerprint) = server.fingerprint
                    && self.fingerprints.get(&fingerprint) == Some(&serial)
                {
                    self.fingerprints.remove(&fingerprint);
                }
            }
            Side::Client(client) => {
                self.clients.remove(&transaction.key);
                if let Some(txn) = client.asked_by {
                    self.asked.remove(&txn);
                }
            }
        }
        Some(transaction)
    }

    /// A transaction of ours goes on without whoever asked for it, who is asked about another.
    pub(super) fn detach(&mut self, serial: u64, errand: Errand) -> Option<ClientTxn> {
        let client = self.client(serial)?;
        client.errand = errand;
        let txn = client.asked_by.take()?;
        self.asked.remove(&txn);
        Some(txn)
    }

    pub(super) fn get(&self, serial: u64) -> Option<&Transaction> {
        self.all.get(&serial)
    }

    pub(super) fn key(&self, serial: u64) -> Option<Arc<TransactionKey>> {
        self.all.get(&serial).map(|transaction| transaction.key.clone())
    }

    pub(super) fn server(&mut self, serial: u64) -> Option<&mut Server> {
        match &mut self.all.get_mut(&serial)?.side {
            Side::Server(server) => Some(server),
            Side::Client(_) => None,
        }
    }

    pub(super) fn client(&mut self, serial: u64) -> Option<&mut Client> {
        match &mut self.all.get_mut(&serial)?.side {
            Side::Client(client) => Some(client),
            Side::Server(_) => None,
        }
    }

    pub(super) fn server_by_key(&self, key: &TransactionKey) -> Option<u64> {
        self.servers.get(key).copied()
    }

    pub(super) fn client_by_key(&self, key: &TransactionKey) -> Option<u64> {
        self.clients.get(key).copied()
    }

    pub(super) fn asked(&self, txn: ClientTxn) -> Option<u64> {
        self.asked.get(&txn).copied()
    }

    pub(super) fn is_known(&self, fingerprint: &[u8; 16]) -> bool {
        self.fingerprints.contains_key(fingerprint)
    }
}
