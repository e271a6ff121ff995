//! The connection of a request: its peer, and its slot in the connection limits.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

use crate::locks::{Mutex, MutexGuard};

/// The peer address of a connection, and the connection's number in this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionPeer {
    pub(super) address: SocketAddr,
    pub(super) number: u64,
}

/// A connection's slot in the limits, returned when the last clone is dropped. A WebSocket holds a clone after its HTTP
/// upgrade.
#[derive(Debug, Clone)]
pub(super) struct ConnectionSlot {
    _permit: Arc<OwnedSemaphorePermit>,
    _address_slot: Option<Arc<AddressSlot>>,
}

impl ConnectionSlot {
    pub(super) fn new(permit: OwnedSemaphorePermit, address_slot: Option<Arc<AddressSlot>>) -> ConnectionSlot {
        ConnectionSlot { _permit: Arc::new(permit), _address_slot: address_slot }
    }
}

/// The number of open connections of each address.
#[derive(Debug, Default)]
pub(super) struct AddressCounts(Mutex<HashMap<IpAddr, usize>>);

/// One counted connection of an address.
#[derive(Debug)]
pub(super) struct AddressSlot {
    addresses: Arc<AddressCounts>,
    address: IpAddr,
}

impl AddressCounts {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a further connection, if the address has fewer than `most`.
    pub(super) fn acquire(self: &Arc<AddressCounts>, address: IpAddr, most: usize) -> Option<Arc<AddressSlot>> {
        let mut counts = self.lock();
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Arc::new(AddressSlot { addresses: Arc::clone(self), address }))
    }
}

impl Drop for AddressSlot {
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
