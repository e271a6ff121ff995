//! Sessions: from a request for frames to decoded pictures.
//!
//! The modules in order, each of which imports only from those after it: [`engine`] and [`video`], the public
//! interface; [`sequence`] (playback) and [`in_order`]; [`schedule`], which groups targets and makes tasks of the
//! groups; [`attempt`], which answers one group; [`validate`], which alone decides whether a picture may be shown, with
//! [`losses`]; [`prefetch`], which fetches bytes of remote sources; [`results`], the queue between tasks and caller;
//! [`decoders`], decoders for a video; [`frame`], the frames that callers receive; [`shared`], the state that all
//! modules share. The choice of samples is left to [`plan`](crate::plan), decoders and workers to
//! [`decode`](crate::decode), the choice of a device to [`device`](crate::device).

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
