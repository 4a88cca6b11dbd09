//! Keys and voices stay in memory: no core dump holds them, no other program of the same user
//! reads them, and no swap space keeps them.

use std::fs;
use std::io;

use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// The bit of `CAP_IPC_LOCK` in a set of capabilities (capabilities(7)).
const CAP_IPC_LOCK: u32 = 14;

/// Why memory may be swapped out.
#[derive(Debug, thiserror::Error)]
pub enum NotLocked {
    /// The limit of locked memory is finite: memory beyond it could not be had at all.
    #[error("the limit of locked memory is {0} bytes")]
    Limited(u64),
    /// The operating system refused.
    #[error("{0}")]
    Refused(io::Error),
}

/// From now on a crash leaves no core dump, and only root reads this process's memory. A core
/// dump that is piped to a program is not subject to the limit, but to the attribute.
///
/// # Errors
///
/// What the operating system says.
pub fn forbid_dumps() -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)?;
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Keeps all memory of this process out of swap space, each page from its first use on.
///
/// All of it, and not the pages of keys alone: ciphers keep expanded keys, and buffers hold voices
/// that are not encrypted yet. Not where a limit is set, for then memory beyond it is refused, and
/// calls with it.
///
/// # Errors
///
/// [`NotLocked`]: it may be swapped out.
pub fn lock() -> Result<(), NotLocked> {
    let limit = rustix::process::getrlimit(Resource::Memlock);
    if let Some(bytes) = limit.maximum
        && !may_exceed_limits()
    {
        return Err(NotLocked::Limited(bytes));
    }
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        rustix::process::setrlimit(Resource::Memlock, raised)
            .map_err(|why| NotLocked::Refused(why.into()))?;
    }
    rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        .map_err(|why| NotLocked::Refused(why.into()))
}

/// Whether swap space is in use on this machine.
#[must_use]
pub fn swaps() -> bool {
    // The first line is a heading.
    fs::read_to_string("/proc/swaps").map_or(true, |swaps| swaps.lines().count() > 1)
}

/// Whether this process has `CAP_IPC_LOCK`.
fn may_exceed_limits() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set & (1 << CAP_IPC_LOCK) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_it_nothing_is_dumped() {
        forbid_dumps().unwrap();
        let limit = rustix::process::getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        let behaviour = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(behaviour, DumpableBehavior::NotDumpable);
    }

    /// Locking under a limit would take memory away from calls.
    #[test]
    fn under_a_limit_nothing_is_locked() {
        let limit = rustix::process::getrlimit(Resource::Memlock);
        let locked = lock();
        match (limit.maximum, may_exceed_limits()) {
            (Some(_), false) => assert!(matches!(locked, Err(NotLocked::Limited(_)))),
            _ => assert!(locked.is_ok(), "{locked:?}"),
        }
        let room = vec![1_u8; 64 << 20];
        assert_eq!(room.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 64 << 20);
    }
}
