//! From a request to its pictures.
//!
//! From the top: [`engine`] and [`video`], the public face; [`sequence`], playback, and [`in_order`]; [`schedule`], which makes
//! groups of targets and tasks of groups; [`attempt`], which answers a group; [`validate`], the one place that decides whether a
//! picture may be shown, with [`losses`]; [`prefetch`], what is done about bytes that are far away; [`results`], the queue to the
//! reader; [`decoders`], decoders for a video; [`frame`], what callers get; and [`shared`], the state that all of it shares. Each
//! imports from those after it alone. Which samples a picture is made of is a matter of [`plan`](crate::plan), decoders and
//! workers of [`decode`](crate::decode), where runs are made of [`device`](crate::device).

pub(crate) mod attempt;
pub(crate) mod decoders;
pub(crate) mod engine;
pub(crate) mod frame;
pub(crate) mod in_order;
pub(crate) mod losses;
pub(crate) mod prefetch;
pub(crate) mod results;
pub(crate) mod schedule;
pub(crate) mod sequence;
pub(crate) mod shared;
pub(crate) mod validate;
pub(crate) mod video;
