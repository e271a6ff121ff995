//! Bytes that are far away: which groups fetch now ([`admission`]), what is fetched ahead of an access pattern ([`pattern`]), and
//! what a task does about samples that are in flight ([`in_flight`]). What is decoded meanwhile is left to others.

pub(crate) mod admission;
pub(crate) mod in_flight;
pub(crate) mod pattern;
