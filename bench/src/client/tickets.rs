//! The order and the times of requests: one list for all callers, which make the requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A frame to request.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestTicket {
    /// Position in the order of all requests.
    pub(super) place: usize,
    pub(super) frame: u32,
    /// The due time, if there is a rate; latency counts from it.
    pub(super) due: Option<Instant>,
}

/// All frames to request.
pub(super) struct RequestTickets {
    frames: Arc<[u32]>,
    next: AtomicUsize,
    pub(super) started: Instant,
    rate_per_s: Option<f64>,
    /// The list repeats until then; without it, each frame comes once.
    until: Option<Instant>,
}

impl RequestTickets {
    /// Starts now. With a rate, request `n` is due `n / rate` seconds after the start, whether or not a caller is free.
    pub(super) fn new(frames: &Arc<[u32]>, rate_per_s: Option<f64>, duration: Option<Duration>) -> RequestTickets {
        let (started, frames) = (Instant::now(), Arc::clone(frames));
        RequestTickets {
            frames,
            next: AtomicUsize::new(0),
            started,
            rate_per_s,
            until: duration.map(|time| started + time),
        }
    }

    /// The next ticket, if there is one.
    pub(super) fn take(&self) -> Option<RequestTicket> {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return None;
        }
        let place = self.next.fetch_add(1, Relaxed);
        let at = if self.until.is_some() { place % self.frames.len().max(1) } else { place };
        let frame = *self.frames.get(at)?;
        let due = self.rate_per_s.map(|rate| self.started + Duration::from_secs_f64(place as f64 / rate));
        let is_too_late = self.until.zip(due).is_some_and(|(until, due)| due >= until);
        (!is_too_late).then_some(RequestTicket { place, frame, due })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::RequestTickets;

    #[test]
    fn each_frame_once_or_over_and_over() {
        let once = RequestTickets::new(&[5, 3].into(), None, None);
        let taken: Vec<_> = std::iter::from_fn(|| once.take()).map(|ticket| (ticket.place, ticket.frame)).collect();
        assert_eq!(taken, [(0, 5), (1, 3)]);
        let over = RequestTickets::new(&[5, 3].into(), None, Some(Duration::from_secs(1000)));
        assert_eq!((0..5).filter_map(|_| over.take()).map(|ticket| ticket.frame).collect::<Vec<_>>(), [5, 3, 5, 3, 5]);
        assert!(RequestTickets::new(&[].into(), None, Some(Duration::from_secs(1000))).take().is_none());
    }

    #[test]
    fn requests_due_after_the_end_are_not_made() {
        let tickets = RequestTickets::new(&[1].into(), Some(0.01), Some(Duration::from_secs(150)));
        let due = [tickets.take(), tickets.take(), tickets.take()].map(|ticket| ticket.and_then(|ticket| ticket.due));
        assert_eq!(due.map(|due| due.is_some()), [true, true, false]);
        assert_eq!(due[1].zip(due[0]).map(|(second, first)| second - first), Some(Duration::from_secs(100)));
    }
}
