//! The cost model: measures decode runs on each device, and chooses the cheaper device for a group of frames.
//!
//! A decode run of n pictures takes a + b·n seconds. On the processor a is close to zero, and b is the time of a
//! picture; on a GPU a is the time for the first picture to get through and the last one to come back. Both are learned
//! from actual runs, for each codec and size; old measurements count little. A device without measurements is tried,
//! and a device that was not chosen for long is tried again, since the load may have changed. Making the runs is left
//! to the devices.
//! chosen for long is tried again: the other may be busy by now.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::bitstream::Codec;

/// The place where a group of frames is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// By a worker, on its core.
    Processor,
    /// On a GPU, with a worker that waits for it.
    Device,
}

/// Decode runs of one kind have similar costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    /// Codec.
    pub(crate) codec: Codec,
    /// Width and height in pixels.
    pub(crate) size: (usize, usize),
}

/// The work and the load at one place, for one group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    /// Pictures to decode.
    pub(crate) pictures: u64,
    /// Running and waiting tasks for each worker.
    pub(crate) load: f64,
}

/// Runs at a place before its costs count.
const TRIALS: u64 = 3;
/// After this many choices of one place in a row the other one is tried.
const RETRY: u64 = 64;
/// The weight of earlier runs decays by this factor with each new run.
const MEMORY: f64 = 0.95;

/// Runs at one place: the sums for a least-squares line.
#[derive(Debug, Default, Clone, Copy)]
struct Line {
    runs: u64,
    weight: f64,
    pictures: f64,
    seconds: f64,
    squares: f64,
    products: f64,
}

impl Line {
    fn learn(&mut self, pictures: f64, seconds: f64) {
        let keep = |old: f64, new: f64| old * MEMORY + new;
        self.runs += 1;
        self.weight = keep(self.weight, 1.0);
        self.pictures = keep(self.pictures, pictures);
        self.seconds = keep(self.seconds, seconds);
        self.squares = keep(self.squares, pictures * pictures);
        self.products = keep(self.products, pictures * seconds);
    }

    /// The estimated seconds of a run of this many pictures.
    fn at(&self, pictures: f64) -> f64 {
        let spread = self.weight * self.squares - self.pictures * self.pictures;
        let mean = self.seconds / self.pictures.max(1.0);
        // From runs of one length the two parts cannot be told apart.
        if spread <= 1e-6 * self.pictures * self.pictures {
            return mean * pictures;
        }
        let slope = ((self.weight * self.products - self.pictures * self.seconds) / spread).clamp(0.0, mean);
        (self.seconds - slope * self.pictures) / self.weight + slope * pictures
    }
}

#[derive(Debug, Default)]
struct Costs {
    processor: Line,
    device: Line,
    /// The place of the last choice, and the number of groups in a row that went there.
    row: Option<(Place, u64)>,
}

/// The measurements of all kinds, and the choices.
#[derive(Debug, Default)]
pub(crate) struct CostModel {
    costs: Mutex<HashMap<Kind, Costs>>,
}

impl CostModel {
    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Costs>> {
        self.costs.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Records the duration of a run.
    pub(crate) fn learn(&self, kind: Kind, place: Place, pictures: u64, seconds: f64) {
        let mut costs = self.lock();
        let costs = costs.entry(kind).or_default();
        let line = if place == Place::Device { &mut costs.device } else { &mut costs.processor };
        line.learn(pictures as f64, seconds);
    }

    /// Chooses the place for a group.
    pub(crate) fn choose(&self, kind: Kind, processor: Offer, device: Offer) -> Place {
        let mut all = self.lock();
        let costs = all.entry(kind).or_default();
        let best = if costs.processor.runs < TRIALS || costs.device.runs < TRIALS {
            if costs.device.runs < costs.processor.runs { Place::Device } else { Place::Processor }
        } else {
            let seconds = |line: &Line, offer: Offer| line.at(offer.pictures as f64) * (1.0 + offer.load);
            let is_device = seconds(&costs.device, device) < seconds(&costs.processor, processor);
            if is_device { Place::Device } else { Place::Processor }
        };
        let chosen = match costs.row {
            Some((place, row)) if place == best && row >= RETRY => other(best),
            _ => best,
        };
        costs.row = Some(match costs.row {
            Some((place, row)) if place == chosen => (chosen, row + 1),
            _ => (chosen, 1),
        });
        chosen
    }
}

fn other(place: Place) -> Place {
    if place == Place::Device { Place::Processor } else { Place::Device }
}

#[cfg(test)]
mod tests {
    use super::{CostModel, Kind, Offer, Place, RETRY};
    use crate::bitstream::Codec;

    const KIND: Kind = Kind { codec: Codec::Hevc, size: (1920, 1080) };

    fn offer(pictures: u64) -> Offer {
        Offer { pictures, load: 0.0 }
    }

    /// 5 ms a picture on the processor; 20 ms and 1 ms a picture on the device.
    fn taught() -> CostModel {
        let model = CostModel::default();
        for pictures in [1, 10, 100, 40, 3] {
            model.learn(KIND, Place::Processor, pictures, 0.005 * pictures as f64);
            model.learn(KIND, Place::Device, pictures, 0.02 + 0.001 * pictures as f64);
        }
        model
    }

    #[test]
    fn long_runs_go_to_the_device_and_short_ones_do_not() {
        let model = taught();
        for pictures in [1, 2, 4] {
            assert_eq!(model.choose(KIND, offer(pictures), offer(pictures)), Place::Processor, "{pictures}");
        }
        for pictures in [6, 20, 200] {
            assert_eq!(model.choose(KIND, offer(pictures), offer(pictures)), Place::Device, "{pictures}");
        }
        // A checkpoint is near.
        assert_eq!(model.choose(KIND, offer(3), offer(200)), Place::Processor);
    }

    #[test]
    fn a_busy_device_gets_less() {
        let model = taught();
        assert_eq!(model.choose(KIND, offer(6), Offer { pictures: 6, load: 4.0 }), Place::Processor);
        assert_eq!(model.choose(KIND, Offer { pictures: 4, load: 4.0 }, offer(4)), Place::Device);
    }

    #[test]
    fn both_are_tried_first_and_again_now_and_then() {
        let model = CostModel::default();
        let mut tried = Vec::new();
        for _ in 0..6 {
            let place = model.choose(KIND, offer(10), offer(10));
            model.learn(KIND, place, 10, if place == Place::Device { 0.001 } else { 0.1 });
            tried.push(place);
        }
        assert_eq!(tried.iter().filter(|place| **place == Place::Device).count(), 3, "{tried:?}");
        let later = (0..2 * RETRY).filter(|_| model.choose(KIND, offer(10), offer(10)) == Place::Processor).count();
        assert!((1..=2).contains(&later), "{later}");
    }
}
