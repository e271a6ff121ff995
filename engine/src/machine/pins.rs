//! Which cores have a worker bound to them, so that no core gets two.
//!
//! Two worker pools that are bound to the same cores would wait for each other on some while others are idle. Within a process
//! a set of numbers says which cores are taken. Other processes are told by a name among the system's abstract sockets, which
//! only one of them can have, and which goes with the process; where such names cannot be had, they are not told.

use std::collections::BTreeSet;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::process::PerProcess;

static TAKEN: PerProcess<Mutex<BTreeSet<usize>>> = PerProcess::new();

fn lock() -> MutexGuard<'static, BTreeSet<usize>> {
    TAKEN.get_or_make(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Cores that one worker pool has for itself, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Pins {
    cores: Vec<usize>,
    /// Holds the name.
    name: Option<UnixListener>,
}

impl Pins {
    /// These cores, unless one of them is taken, in this process or in another one that has the same cores.
    pub(crate) fn take(cores: Vec<usize>) -> Option<Pins> {
        let mut taken = lock();
        if cores.is_empty() || cores.iter().any(|core| taken.contains(core)) {
            return None;
        }
        let name = match listen(&cores) {
            Ok(name) => Some(name),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return None,
            Err(_) => None,
        };
        taken.extend(&cores);
        Some(Pins { cores, name })
    }
}

/// A name for a set of cores: a socket that nothing is ever sent to.
fn listen(cores: &[usize]) -> std::io::Result<UnixListener> {
    let mut name = "bucket-streamer-cores".to_owned();
    // As many as there is room for: sets that differ behind that are on machines of hundreds of cores.
    for run in cores.chunk_by(|a, b| a + 1 == *b).take(8) {
        name.push_str(&format!(",{}-{}", run[0], run[run.len() - 1]));
    }
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut taken = lock();
        // Before the cores are: else the next one finds the name in use.
        drop(self.name.take());
        self.cores.iter().for_each(|core| _ = taken.remove(core));
    }
}

#[cfg(test)]
mod tests {
    use super::Pins;

    #[test]
    fn no_core_is_taken_twice() {
        // Numbers that no machine has: other tests take real ones.
        let first = Pins::take(vec![9001, 9002]).unwrap();
        assert!(Pins::take(vec![9002, 9003]).is_none() && Pins::take(Vec::new()).is_none());
        let other = Pins::take(vec![9003]).unwrap();
        drop(first);
        let again = Pins::take(vec![9001, 9002]).unwrap();
        drop((again, other));
    }

    #[test]
    fn another_process_that_has_the_same_cores_keeps_them() {
        let held = super::listen(&[9010, 9011]).unwrap();
        assert!(Pins::take(vec![9010, 9011]).is_none());
        drop(held);
        assert!(Pins::take(vec![9010, 9011]).is_some());
    }
}
