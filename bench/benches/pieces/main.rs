//! Benches of the engine's parts, one by one: `docs/pieces.md` says how to run them, and has results.
//!
//! All benches run on one thread. The inputs of a bench (pictures, checkpoints, the large file) are created before it
//! is timed, and only if its filter selects it: Criterion calls the closure of `bench_function` once for every
//! measurement, and not at all for a bench that its filter excludes. So these inputs are in a `LazyCell` outside of it,
//! and so are reused buffers.

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
    // Short measurements: there are many, and a whole run should take minutes. Options of the command line override
    // these.
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
