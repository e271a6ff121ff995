//! The connection of a request: its peer, and its place among all connections.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

/// The peer of a connection, and the connection's number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) number: u64,
}

/// A connection's place in the limits; a WebSocket keeps it after HTTP has ended.
#[derive(Debug, Clone)]
pub(super) struct Held {
    _permit: Arc<OwnedSemaphorePermit>,
    _place: Option<Arc<Place>>,
}

impl Held {
    pub(super) fn new(permit: OwnedSemaphorePermit, place: Option<Arc<Place>>) -> Held {
        Held { _permit: Arc::new(permit), _place: place }
    }
}

/// The number of connections of each address.
#[derive(Debug, Default)]
pub(super) struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// One connection of an address.
#[derive(Debug)]
pub(super) struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more connection, if the address has fewer than `most`.
    pub(super) fn take(self: &Arc<Addresses>, address: IpAddr, most: usize) -> Option<Arc<Place>> {
        let mut counts = self.lock();
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Arc::new(Place { addresses: Arc::clone(self), address }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.addresses.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
