//! The server's resources: resident memory and open files, once a second.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A sample: time in seconds, resident memory in MiB, and open files.
type ResourceSample = (f64, f64, usize);

/// Samples a process until the samples are printed.
pub(crate) struct ResourceWatch(Arc<Mutex<Vec<ResourceSample>>>);

impl ResourceWatch {
    /// Samples a process from now on; none without a pid.
    pub(crate) fn start(pid: Option<u32>) -> ResourceWatch {
        let samples = Arc::new(Mutex::new(Vec::new()));
        if let Some(pid) = pid {
            let (began, samples) = (Instant::now(), Arc::downgrade(&samples));
            // A thread of its own samples on time, however busy the clients are.
            std::thread::spawn(move || {
                while let (Some(samples), Some((resident, files))) = (samples.upgrade(), sample(pid)) {
                    samples.lock().expect("no panic").push((began.elapsed().as_secs_f64(), resident, files));
                    drop(samples);
                    std::thread::sleep(Duration::from_secs(1));
                }
            });
        }
        ResourceWatch(samples)
    }

    /// Prints a summary of the samples.
    pub(crate) fn print_summary(self) {
        let samples = self.0.lock().expect("no panic");
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return };
        let middle = samples[samples.len() / 2];
        let most = samples.iter().map(|sample| sample.1).fold(0.0, f64::max);
        let files = samples.iter().map(|sample| sample.2).max().unwrap_or(0);
        println!(
            "resident: {:.0} MiB at the start, {:.0} in the middle, {:.0} at the end, {most:.0} at most",
            first.1, middle.1, last.1
        );
        // At first a process warms up: only the second half shows a trend.
        let late = &samples[samples.len() / 2..];
        println!("its trend in the second half: {:+.2} MiB a minute", slope(late) * 60.0);
        println!(
            "open files: {} at the start, {} in the middle, {} at the end, {files} at most",
            first.2, middle.2, last.2
        );
    }
}

/// Slope per second, by least squares.
fn slope(samples: &[ResourceSample]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&ResourceSample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (time, resident) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let product: f64 = samples.iter().map(|sample| (sample.0 - time) * (sample.1 - resident)).sum();
    let square: f64 = samples.iter().map(|sample| (sample.0 - time).powi(2)).sum();
    if square > 0.0 { product / square } else { 0.0 }
}

fn sample(pid: u32) -> Option<(f64, usize)> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: f64 = statm.split(' ').nth(1)?.parse().ok()?;
    // An ended process that is still listed has neither.
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    (pages > 0.0).then_some((pages * 4096.0 / f64::from(1 << 20), files))
}
