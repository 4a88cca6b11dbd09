//! What a program asked of the kernel, in order, as strace saw it.

use std::collections::{HashMap, HashSet};
use std::path::Path;

/// What strace is told: every call that can carry bytes out of a process or make them durable,
/// whole, with what each descriptor is.
pub(crate) fn command(file: &Path) -> Vec<String> {
    let calls = "?open,openat,?openat2,?creat,write,writev,pwrite64,pwritev,pwritev2,sendto,\
                 sendmsg,sendmmsg,recvfrom,recvmsg,recvmmsg,fsync,fdatasync,syncfs,memfd_create,\
                 mmap,sendfile,splice,tee,vmsplice,copy_file_range,socket,io_uring_setup,\
                 process_vm_writev,msgsnd,mq_timedsend,shmat";
    let calls = format!("trace={}", calls.replace(' ', ""));
    let fixed = ["strace", "-f", "--seccomp-bpf", "-A", "-y", "-xx", "-s", "1048576"];
    let mut command: Vec<String> = fixed.map(str::to_owned).to_vec();
    command.extend(["-e", &calls, "-e", "signal=none"].map(str::to_owned));
    command.extend(["-o".to_owned(), file.display().to_string()]);
    command
}

/// One system call.
#[derive(Debug)]
pub(crate) struct Syscall {
    pub(crate) name: String,
    /// The line on which it was entered, and the one on which it returned: times, in order.
    /// `usize::MAX` where it never returned.
    pub(crate) entered: usize,
    pub(crate) returned: usize,
    /// What it returned; `None` where it never did.
    pub(crate) result: Option<i64>,
    /// Why it failed, as strace names it; empty where it did not.
    pub(crate) error: String,
    /// What its first descriptor is: a path, `socket:[…]`, `pipe:[…]`, `anon_inode:[…]`.
    pub(crate) object: String,
    /// Its other arguments, as strace writes them, without strings and descriptors.
    pub(crate) arguments: String,
    /// The strings among its arguments: paths, and the parts of vectors.
    pub(crate) strings: Vec<Vec<u8>>,
    /// All bytes of its arguments, joined: the parts of a vector belong together.
    pub(crate) bytes: Vec<u8>,
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) calls: Vec<Syscall>,
    /// The sockets that are UDP over IP: the relay.
    relays: HashSet<String>,
}

impl Trace {
    /// Reads what strace wrote.
    pub(crate) fn read(file: &Path) -> Self {
        let bytes = std::fs::read(file).expect("strace has written");
        let text = String::from_utf8(bytes).expect("strace writes ASCII");
        let mut calls = Vec::new();
        let mut open: HashMap<&str, (usize, String)> = HashMap::new();
        for (line, text) in text.lines().enumerate() {
            let Some((pid, rest)) = text.split_once(' ') else { continue };
            let rest = rest.trim_start();
            if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
                open.insert(pid, (line, start.to_owned()));
            } else if let Some(resumed) = rest.strip_prefix("<... ") {
                let Some((_, end)) = resumed.split_once(" resumed>") else { continue };
                if let Some((entered, start)) = open.remove(pid) {
                    calls.extend(parse(&format!("{start}{end}"), entered, line));
                }
            } else {
                calls.extend(parse(rest, line, line));
            }
        }
        calls.extend(open.into_values().filter_map(|(at, start)| parse(&start, at, usize::MAX)));
        calls.sort_by_key(|call| call.entered);
        let udp = |call: &&Syscall| {
            call.name == "socket"
                && call.arguments.contains("AF_INET")
                && call.arguments.contains("SOCK_DGRAM")
        };
        let relays = calls.iter().filter(udp).map(|call| call.object.clone()).collect();
        Self { calls, relays }
    }

    /// Whether bytes that this call takes go to a file, a pipe, a Unix socket, a terminal or
    /// anywhere else that is not the network's.
    pub(crate) fn keeps(&self, call: &Syscall) -> bool {
        call.writes() && !self.relays.contains(&call.object)
    }

    /// Whether this call sends bytes on to a peer.
    pub(crate) fn relays(&self, call: &Syscall) -> bool {
        call.writes() && self.relays.contains(&call.object)
    }

    /// Whether this call took bytes from a peer.
    pub(crate) fn receives(&self, call: &Syscall) -> bool {
        call.name.starts_with("recv") && self.relays.contains(&call.object)
    }
}

impl Syscall {
    pub(crate) fn writes(&self) -> bool {
        ["write", "pwrite", "send"].iter().any(|start| self.name.starts_with(start))
            && self.name != "sendfile"
    }

    pub(crate) fn syncs(&self) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync")
    }

    pub(crate) fn opens(&self) -> bool {
        matches!(self.name.as_str(), "open" | "openat" | "openat2" | "creat")
    }

    /// Whether it moves bytes where this trace does not show them.
    pub(crate) fn hides(&self) -> bool {
        let hidden = [
            "sendfile",
            "splice",
            "tee",
            "vmsplice",
            "copy_file_range",
            "io_uring_setup",
            "memfd_create",
            "process_vm_writev",
            "msgsnd",
            "mq_timedsend",
            "shmat",
        ];
        if hidden.contains(&self.name.as_str()) {
            // Not there in this kernel, or not allowed: it moved nothing.
            return self.result.is_none_or(|result| result >= 0);
        }
        let mapped = self.name == "mmap"
            && ["PROT_WRITE", "MAP_SHARED"].iter().all(|flag| self.arguments.contains(flag))
            && !self.arguments.contains("MAP_ANON");
        // SQLite shares the index of its log this way; what is in it at the end is looked at.
        mapped && !self.object.ends_with("catalog.db-shm")
    }
}

fn parse(text: &str, entered: usize, returned: usize) -> Option<Syscall> {
    let (name, rest) = text.split_once('(')?;
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        return None;
    }
    let (rest, result) = match rest.rsplit_once(" = ") {
        Some((rest, result)) if returned != usize::MAX => (rest, result),
        _ => (rest, ""),
    };
    let (mut objects, mut strings, mut arguments) = (Vec::new(), Vec::new(), String::new());
    let mut left = rest;
    while let Some(at) = left.find(['<', '"']) {
        let (before, from) = left.split_at(at);
        arguments.push_str(before);
        let end = if from.starts_with('<') { '>' } else { '"' };
        let inside = &from[1..];
        let Some((inside, after)) = inside.split_once(end) else { break };
        assert!(!after.starts_with("..."), "strace has cut a string of {name}");
        if end == '>' {
            objects.push(String::from_utf8_lossy(&unescape(inside)).into_owned());
        } else if !before.ends_with("inet_addr(") {
            strings.push(unescape(inside));
        }
        left = after;
    }
    arguments.push_str(left);
    let made = result.split_once('<').map(|(_, made)| made.trim_end_matches('>'));
    let made = made.map(|made| String::from_utf8_lossy(&unescape(made)).into_owned());
    // What a call returns is what it is about, where it opens something.
    let object = made.or_else(|| objects.into_iter().next()).unwrap_or_default();
    let error = result.strip_prefix("-1 ").unwrap_or_default();
    let error = error.split(' ').next().unwrap_or_default().to_owned();
    let number = result.split([' ', '<']).next().unwrap_or_default();
    let result = match number.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(|n| n as i64),
        None => number.parse().ok(),
    };
    let bytes = strings.concat();
    Some(Syscall {
        name: name.to_owned(),
        entered,
        returned,
        result,
        error,
        object,
        arguments,
        strings,
        bytes,
    })
}

/// `\x41\x42` as bytes; what is not escaped stays.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if let [b'\\', b'x', high, low, after @ ..] = rest {
            let digit = |d: u8| (d as char).to_digit(16).expect("hex") as u8;
            bytes.push(digit(*high) << 4 | digit(*low));
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}
