//! Loads a server with many clients over HTTP and WebSocket, for as long as one likes, and checks every still that comes
//! against what the library itself makes of the same videos, played from their first sample on.
//!
//!     cargo run --release -p bucket-streamer-bench --features harness --bin server_load -- --url http://127.0.0.1:8080 --root NAME=FOLDER
//!         [--clients 1000] [--videos 50] [--minutes 5 | --seconds S] [--ws 0.5] [--width W] [--quality Q] [--frames N]
//!         [--batch N] [--pid PID] [--abuse N] [--term-after S] [--retry] [--timeout S] [--seed N] [--pause MS]
//!
//! FOLDER is one of the server's roots, which it calls NAME. `--ws` is the share of clients that speak WebSocket. `--pid`
//! is the server's: its resident memory and open files are told then. `--abuse` adds clients that nobody wants, see
//! `abuse.rs`. `--term-after` sends SIGTERM: what was asked for before has to come whole, what is asked for later is to be
//! refused. `--retry` asks again after a 503, when the server says. A token is read from BUCKET_STREAMER_BEARER_TOKEN.
//!
//!     cargo run --release -p bucket-streamer-bench --features harness --bin server_load -- --table --server target/release/bucket-streamer --clips FOLDER
//!         [--seconds 12] [--only NAME] [--clip FILE] [--large FILE] [--with 'MORE ARGUMENTS OF THE SERVER']
//!
//! prints the table of a well-behaved client under attacks, see `table.rs`: it starts a server for each.
//!
//! Without `--table` it starts nothing itself. Ends with a failure if a still was wrong, an answer did not come, or came twice or out of order,
//! or a refusal was another one than that the server is full.
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
