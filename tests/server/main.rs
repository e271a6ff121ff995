//! The server, asked as others ask it: over sockets. What comes back is compared with a sequential decode.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/damage/mod.rs"]
mod damaging;

mod damage;
mod fairness;
mod frames;
mod guard;
mod house;
mod http2;
mod limits;
mod load;
mod opening;
mod program;
mod remote;
mod socket;
mod two_roots;
