//! Tests of the results queue.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Frames, Payer, Reader, Request};
use crate::Engine;
use crate::device::Residency;

#[test]
fn a_task_that_rests_when_the_reader_has_gone_keeps_nothing_alive() {
    let engine = Engine::new(Some(1)).shared;
    let make = Box::new(|_, result: crate::Result<_>| result.and_then(crate::DecodedFrame::into_host));
    let request = Request::new(engine.for_requests(), make, Payer::default(), Residency::Host);
    let alive = Arc::downgrade(&request);
    drop(Frames::of(Arc::clone(&request), BTreeSet::new()));
    Arc::clone(&request).rest(&engine.devices.host(), 1, Box::new(|_| ()));
    drop(request);
    assert!(alive.upgrade().is_none());
}
