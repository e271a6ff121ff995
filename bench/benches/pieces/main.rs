//! What the pieces of the engine take, each for itself: `docs/pieces.md` says how to run this, and what was measured.
//!
//! Everything runs on one thread. What a bench needs (pictures, checkpoints, the large file) is made before it is timed, and
//! only if it is asked for: Criterion calls what is given to `bench_function` once for every measurement, and not at all
//! for what its filter leaves out. So those things are in a `LazyCell` outside of it, and so is what keeps buffers.

mod clips;
mod colour;
mod fork;
mod index;
mod jpeg;
mod parse;
mod plan;
mod scale;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    bucket_streamer::process::dedicate().expect("a signal handler");
    // Short measurements: there are many, and a whole run is to take minutes. Options of the command line count more.
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(250))
        .measurement_time(Duration::from_millis(1200))
        .sample_size(30)
        .nresamples(10_000)
        .without_plots()
        .configure_from_args();
    parse::bench(&mut criterion);
    plan::bench(&mut criterion);
    fork::bench(&mut criterion);
    colour::bench(&mut criterion);
    scale::bench(&mut criterion);
    jpeg::bench(&mut criterion);
    index::bench(&mut criterion);
    criterion.final_summary();
}
