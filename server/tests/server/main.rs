//! Tests of the server over sockets. Answers are compared with a sequential decode.

mod damage;
mod fairness;
mod frames;
mod guard;
mod house;
mod http2;
mod limits;
mod load;
mod opening;
mod remote;
mod socket;
mod two_roots;
