//! Bytes of remote sources: the order in which groups fetch ([`admission`]), prefetching along an access pattern
//! ([`pattern`]), and tasks that need samples in flight ([`in_flight`]). Fetching is left to the sources.

pub(crate) mod admission;
pub(crate) mod in_flight;
pub(crate) mod pattern;
