//! Reserves cores for the workers of a pool, so that no core gets two workers. Binding is left to `decode/workers`.
//!
//! Two worker pools bound to the same cores would wait for each other on these while other cores are idle. Within a
//! process a set of core numbers records the reservations. Between processes the name of an abstract socket (unix(7))
//! does: only one process can own it, and the kernel removes it with the process. Where such names are not available,
//! other processes are not excluded.

use std::collections::BTreeSet;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::process::PerProcess;

static TAKEN: PerProcess<Mutex<BTreeSet<usize>>> = PerProcess::new();

fn lock() -> MutexGuard<'static, BTreeSet<usize>> {
    TAKEN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Cores reserved for one worker pool, released on drop.
#[derive(Debug)]
pub(crate) struct CoreReservation {
    cores: Vec<usize>,
    /// Owns the name in the abstract namespace of sockets (unix(7)).
    name: Option<UnixListener>,
}

impl CoreReservation {
    /// Reserves these cores; `None` if this process has reserved one of them, or another process the same set.
    pub(crate) fn take(cores: Vec<usize>) -> Option<CoreReservation> {
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
        Some(CoreReservation { cores, name })
    }
}

/// Binds a name for a set of cores: a socket that never receives anything.
fn listen(cores: &[usize]) -> std::io::Result<UnixListener> {
    let mut name = "bucket-streamer-cores".to_owned();
    // Limited by the length of a name: sets that differ only behind it exist on machines with hundreds of cores.
    for run in cores.chunk_by(|a, b| a + 1 == *b).take(8) {
        name.push_str(&format!(",{}-{}", run[0], run[run.len() - 1]));
    }
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

impl Drop for CoreReservation {
    fn drop(&mut self) {
        let mut taken = lock();
        // Before the cores are released: otherwise the next owner would find the name in use.
        drop(self.name.take());
        self.cores.iter().for_each(|core| _ = taken.remove(core));
    }
}

#[cfg(test)]
mod tests {
    use super::CoreReservation;

    #[test]
    fn no_core_is_taken_twice() {
        // Core numbers that no machine has, since other tests reserve real ones.
        let first = CoreReservation::take(vec![9001, 9002]).unwrap();
        assert!(CoreReservation::take(vec![9002, 9003]).is_none() && CoreReservation::take(Vec::new()).is_none());
        let other = CoreReservation::take(vec![9003]).unwrap();
        drop(first);
        let again = CoreReservation::take(vec![9001, 9002]).unwrap();
        drop((again, other));
    }

    #[test]
    fn cores_of_another_process_are_not_reserved() {
        let held = super::listen(&[9010, 9011]).unwrap();
        assert!(CoreReservation::take(vec![9010, 9011]).is_none());
        drop(held);
        assert!(CoreReservation::take(vec![9010, 9011]).is_some());
    }
}
