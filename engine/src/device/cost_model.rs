//! The cost model: measures decode runs on each device, and chooses the cheaper device for a group of frames.
//!
//! A decode run of n pictures takes a + b·n seconds. On the processor a is close to zero, and b is the time of a
//! picture; on a GPU a is the latency of the first picture and of the copy of the last one. Both are learned from
//! actual runs, for each codec and size; old measurements count little. A device without measurements is tried. A
//! device that was not chosen for long is tried again, since the load of the other one may have changed. Making the
//! runs is left to the devices.

use std::collections::HashMap;

use crate::bitstream::Codec;
use crate::sync::unmodelled::{Mutex, MutexGuard};

/// The kind of device that decodes a group of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum DeviceClass {
    /// By a worker, on its core.
    Processor,
    /// On a GPU, with a worker that waits for it.
    Device,
}

/// A class of decode runs with similar costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CostClass {
    /// Codec.
    pub(crate) codec: Codec,
    /// Width and height in pixels.
    pub(crate) size: (usize, usize),
}

/// The work and the load on one device, for one group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    /// Pictures to decode.
    pub(crate) pictures: u64,
    /// Running and waiting tasks for each worker.
    pub(crate) load: f64,
}

/// Runs on a device before its costs count.
const MIN_RUNS: u64 = 3;
/// After this many choices of one device in a row the other one is tried.
const RETRY: u64 = 64;
/// The weight of earlier runs decays by this factor with each new run.
const MEMORY: f64 = 0.95;

/// Runs on one device: the sums for a least-squares line.
#[derive(Debug, Default, Clone, Copy)]
struct CostLine {
    runs: u64,
    weight: f64,
    pictures: f64,
    seconds: f64,
    squares: f64,
    products: f64,
}

impl CostLine {
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
        // From runs of one length the two parts cannot be separated.
        if spread <= 1e-6 * self.pictures * self.pictures {
            return mean * pictures;
        }
        let slope = ((self.weight * self.products - self.pictures * self.seconds) / spread).clamp(0.0, mean);
        (self.seconds - slope * self.pictures) / self.weight + slope * pictures
    }
}

#[derive(Debug, Default)]
struct DeviceCosts {
    processor: CostLine,
    device: CostLine,
    /// The device of the last choice, and the number of groups in a row that it got.
    streak: Option<(DeviceClass, u64)>,
}

/// The measurements of all classes, and the last choices.
#[derive(Debug, Default)]
pub(crate) struct CostModel {
    costs: Mutex<HashMap<CostClass, DeviceCosts>>,
}

impl CostModel {
    fn lock(&self) -> MutexGuard<'_, HashMap<CostClass, DeviceCosts>> {
        self.costs.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Records a run of `pictures` pictures that took `seconds`.
    pub(crate) fn learn(&self, kind: CostClass, place: DeviceClass, pictures: u64, seconds: f64) {
        let mut costs = self.lock();
        let costs = costs.entry(kind).or_default();
        let line = if place == DeviceClass::Device { &mut costs.device } else { &mut costs.processor };
        line.learn(pictures as f64, seconds);
    }

    /// Chooses the device for a group: the one with the lower estimated time, multiplied by its load.
    pub(crate) fn choose(&self, kind: CostClass, processor: Workload, device: Workload) -> DeviceClass {
        let mut all = self.lock();
        let costs = all.entry(kind).or_default();
        let best = if costs.processor.runs < MIN_RUNS || costs.device.runs < MIN_RUNS {
            if costs.device.runs < costs.processor.runs { DeviceClass::Device } else { DeviceClass::Processor }
        } else {
            let seconds = |line: &CostLine, offer: Workload| line.at(offer.pictures as f64) * (1.0 + offer.load);
            let is_device = seconds(&costs.device, device) < seconds(&costs.processor, processor);
            if is_device { DeviceClass::Device } else { DeviceClass::Processor }
        };
        let chosen = match costs.streak {
            Some((place, row)) if place == best && row >= RETRY => other_device(best),
            _ => best,
        };
        costs.streak = Some(match costs.streak {
            Some((place, row)) if place == chosen => (chosen, row + 1),
            _ => (chosen, 1),
        });
        chosen
    }
}

fn other_device(place: DeviceClass) -> DeviceClass {
    if place == DeviceClass::Device { DeviceClass::Processor } else { DeviceClass::Device }
}

#[cfg(test)]
mod tests {
    use super::{CostClass, CostModel, DeviceClass, RETRY, Workload};
    use crate::bitstream::Codec;

    const KIND: CostClass = CostClass { codec: Codec::Hevc, size: (1920, 1080) };

    fn offer(pictures: u64) -> Workload {
        Workload { pictures, load: 0.0 }
    }

    /// 5 ms a picture on the processor; 20 ms and 1 ms a picture on the device.
    fn trained() -> CostModel {
        let model = CostModel::default();
        for pictures in [1, 10, 100, 40, 3] {
            model.learn(KIND, DeviceClass::Processor, pictures, 0.005 * pictures as f64);
            model.learn(KIND, DeviceClass::Device, pictures, 0.02 + 0.001 * pictures as f64);
        }
        model
    }

    #[test]
    fn long_runs_go_to_the_device_and_short_ones_do_not() {
        let model = trained();
        for pictures in [1, 2, 4] {
            assert_eq!(model.choose(KIND, offer(pictures), offer(pictures)), DeviceClass::Processor, "{pictures}");
        }
        for pictures in [6, 20, 200] {
            assert_eq!(model.choose(KIND, offer(pictures), offer(pictures)), DeviceClass::Device, "{pictures}");
        }
        // A checkpoint reduces the processor's work.
        assert_eq!(model.choose(KIND, offer(3), offer(200)), DeviceClass::Processor);
    }

    #[test]
    fn a_busy_device_gets_less() {
        let model = trained();
        assert_eq!(model.choose(KIND, offer(6), Workload { pictures: 6, load: 4.0 }), DeviceClass::Processor);
        assert_eq!(model.choose(KIND, Workload { pictures: 4, load: 4.0 }, offer(4)), DeviceClass::Device);
    }

    #[test]
    fn both_are_tried_first_and_again_now_and_then() {
        let model = CostModel::default();
        let mut tried = Vec::new();
        for _ in 0..6 {
            let place = model.choose(KIND, offer(10), offer(10));
            model.learn(KIND, place, 10, if place == DeviceClass::Device { 0.001 } else { 0.1 });
            tried.push(place);
        }
        assert_eq!(tried.iter().filter(|place| **place == DeviceClass::Device).count(), 3, "{tried:?}");
        let later =
            (0..2 * RETRY).filter(|_| model.choose(KIND, offer(10), offer(10)) == DeviceClass::Processor).count();
        assert!((1..=2).contains(&later), "{later}");
    }
}
