//! The server, asked as others ask it: over sockets. What comes back is compared with a sequential decode.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/damage/mod.rs"]
mod damaging;

mod damage;
mod frames;
mod guard;
mod house;
mod http2;
mod limits;
mod load;
mod program;
mod remote;
mod socket;
mod two_roots;
