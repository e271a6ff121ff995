//! Tests of the server over sockets. Answers are compared with a sequential decode.

mod damage;
mod fairness;
mod frames;
mod guard;
mod http2;
mod limits;
mod load;
mod opening;
mod remote;
mod socket;
mod test_server;
mod two_roots;
