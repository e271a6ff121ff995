//! Decodes samples to detect damage; the pictures are discarded. The conclusions are left to `session::losses` and
//! `session::decoders`.

use ffi::{DamageSign, Packet};

use super::pool::Lease;
use super::run::{DecodeRun, Event};
use super::samples::SampleReader;
use crate::error::Result;

impl SampleReader<'_> {
    /// Sends one more sample to a decoder with one thread. False if it cannot be read or the decoder rejects it.
    pub fn accepts(&self, lease: &mut Lease, index: u32) -> bool {
        let packet = self.sample(index).and_then(|data| self.packet(index, &data));
        packet.is_ok_and(|packet| {
            let is_accepted = self.decode_one(lease, packet, index);
            is_accepted && !lease.decoder().lacks_room()
        })
    }

    /// Sends a packet and receives the pictures that are ready. False if there was damage.
    fn decode_one(&self, lease: &mut Lease, packet: Packet, index: u32) -> bool {
        let mut run = DecodeRun::single(packet, index);
        let mut is_accepted = true;
        while let Ok(Some(event)) = run.next(self, lease) {
            is_accepted &= matches!(event, Event::Picture(..));
        }
        is_accepted
    }

    /// Decodes samples `first..=last` on one thread, and passes the findings in each picture to `sink`.
    ///
    /// # Errors
    /// Only for lack of memory.
    pub fn inspect_each(
        &self,
        lease: &mut Lease,
        first: u32,
        last: u32,
        sink: &mut dyn FnMut(DamageSign),
    ) -> Result<()> {
        for index in first..=last {
            let data = if index == first { self.sample_with_parameter_sets(index) } else { self.sample(index) };
            let Ok(data) = data else { continue };
            let packet = self.packet(index, &data)?;
            lease.decoder().clear_damage_sign();
            self.decode_one(lease, packet, index);
            if lease.decoder().lacks_room() {
                return Ok(());
            }
            sink(lease.decoder().damage_sign());
        }
        Ok(())
    }
}
