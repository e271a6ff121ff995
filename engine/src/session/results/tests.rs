//! Tests of the results queue.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Billing, FrameRequest, Frames, ResultSink};
use crate::Engine;
use crate::device::Residency;

#[test]
fn a_task_that_pauses_after_frames_are_dropped_keeps_nothing_alive() {
    let engine = Engine::new(Some(1)).shared;
    let make = Box::new(|_, result: crate::Result<_>| result.and_then(crate::DecodedFrame::into_host));
    let request = FrameRequest::new(engine.for_requests(), make, Billing::default(), Residency::Host);
    let alive = Arc::downgrade(&request);
    drop(Frames::of(Arc::clone(&request), BTreeSet::new()));
    Arc::clone(&request).pause(&engine.devices.host(), 1, Box::new(|_| ()));
    drop(request);
    assert!(alive.upgrade().is_none());
}
