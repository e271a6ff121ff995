//! Loads a server with many clients over HTTP and WebSocket, for a chosen time, and compares every still with that of
//! the library itself for the same videos, played from their first sample on.
//!
//!     cargo run --release -p bucket-streamer-bench --features harness --bin server_load -- --url http://127.0.0.1:8080 --root NAME=FOLDER
//!         [--clients 1000] [--videos 50] [--minutes 5 | --seconds S] [--ws 0.5] [--width W] [--quality Q] [--frames N]
//!         [--batch N] [--pid PID] [--abuse N] [--term-after S] [--retry] [--timeout S] [--seed N] [--pause MS]
//!
//! FOLDER is one of the server's roots, which it calls NAME. `--ws` is the share of clients that use WebSocket. `--pid`
//! is the server's process: then its resident memory and open files are reported. `--abuse` adds abusive clients, see
//! `abuse.rs`. `--term-after` sends SIGTERM: earlier requests must be answered completely, later ones must be refused.
//! `--retry` tries again after a 503, after the time of Retry-After. A token is read from BUCKET_STREAMER_BEARER_TOKEN.
//!
//!     cargo run --release -p bucket-streamer-bench --features harness --bin server_load -- --table --server target/release/bucket-streamer --clips FOLDER
//!         [--seconds 12] [--only NAME] [--clip FILE] [--large FILE] [--with 'MORE ARGUMENTS OF THE SERVER']
//!
//! prints the table of a well-behaved client under attacks, see `table.rs`: it starts a server for each attack.
//!
//! Without `--table` it starts no server. It fails if a still was wrong, if a response was missing, duplicate or out of
//! order, or if the server refused a request for another reason than that it was full.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its results")]

mod abuse;
mod attacks;
mod counts;
mod expected;
mod http;
mod load;
mod plan;
mod raw;
mod table;
mod watch;
mod ws;

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    let is_table = arguments.next_if(|first| first == "--table").is_some();
    let done = if is_table { table::run(arguments) } else { plan::Plan::read().and_then(load::run) };
    match done {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(why) => {
            eprintln!("server_load: {why}");
            std::process::ExitCode::from(2)
        }
    }
}
