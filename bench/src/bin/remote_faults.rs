//! Frames from a server that fails a share of its requests: resets, stalls, truncations, 503s, slow first bytes.
//!
//!     cargo run --release -p bucket-streamer-bench --features harness --bin remote_faults -- --requests 10000 --seed 1
//!
//! A fifth as many requests come first, to warm up; the resources of the process afterwards are compared with those at
//! the end. It fails if any result was neither the sequential decode's frame nor an error that names the server's
//! fault, if a result was late, if more requests were repeated than allowed, or if something leaks.
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use testing::faults::{FaultHarness, FaultPlan, FaultReport};

fn main() -> std::process::ExitCode {
    let mut plan = FaultPlan::new(10_000, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value: u64 = arguments.next().and_then(|text| text.parse().ok()).expect("a number");
        match &name[..] {
            "--requests" => plan.requests = value,
            "--seed" => plan.seed = value,
            "--callers" => plan.callers = value.max(1),
            "--percent" => plan.percent = value.min(20) as u32,
            _ => panic!("unknown option {name}: use --requests, --seed, --callers or --percent"),
        }
    }
    let faults = FaultHarness::new().expect("the fixtures");
    let warm_up = FaultPlan { requests: plan.requests / 5, seed: !plan.seed, ..plan.clone() };
    faults.run(&warm_up).expect("a client");
    let before = faults.settled();
    println!("after {} requests to warm up: {before:?}", warm_up.requests);
    let report = faults.run(&plan).expect("a client");
    let after = faults.settled();
    println!("after {} more: {after:?}", plan.requests);
    print_report(&report, &plan);
    // The deadline applies to one read; a frame takes several, but those after a failure give up at once.
    let is_late = report.slowest.max(report.slowest_opening) > 3 * plan.options.deadline;
    let leaks = after.threads > before.threads + 2 * plan.options.connections
        || after.descriptors > before.descriptors + 4 * plan.options.connections
        || after.resident_kib > before.resident_kib + (64 << 10);
    let hedges = report.hedged > report.most_hedged(&plan);
    let verdict = [
        ("wrong answers", !report.wrong.is_empty()),
        ("late answers", is_late),
        ("too many second requests", hedges),
        ("leaks", leaks),
    ];
    let failures: Vec<&str> = verdict.iter().filter(|(_, is_so)| *is_so).map(|(what, _)| *what).collect();
    println!("{}", if failures.is_empty() { "all is well".to_owned() } else { failures.join(", ") });
    if failures.is_empty() { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

fn print_report(report: &FaultReport, plan: &FaultPlan) {
    let refused: u64 = report.refused.values().sum();
    println!("{} s; {} frames right, {refused} refused", report.took.as_secs(), report.right);
    println!("{} openings, {} of them refused", report.openings, report.not_opened);
    println!("{} frames took longer than one read may", report.over_deadline);
    println!("slowest frame {:?}, slowest opening {:?}", report.slowest, report.slowest_opening);
    println!("{} attempts, {} bytes, {} sent twice", report.attempts, report.bytes, report.duplicate_bytes);
    println!("{} attempts beside another one, of {}", report.hedged, report.most_hedged(plan));
    println!("the server spoiled {} requests: {:#?}", report.faulty_replies(), report.answers);
    let traffic = &report.traffic;
    println!("{} connections, {} at one time at most", traffic.opened, traffic.most_open);
    println!("refused: {:#?}", report.refused);
    println!("wrong: {:#?}", report.wrong);
}
