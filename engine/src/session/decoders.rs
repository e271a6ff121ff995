//! Decoders for an open video: their threads, the memory of their pictures, and whether the ends of slices and tiles
//! indicate damage in this video. Decoders themselves are left to [`decode::pool`](crate::decode::pool).

use ffi::{DamageSign, PlaneLayout, Threads};

use std::sync::atomic::Ordering::Relaxed;

use crate::bitstream::Codec;
use crate::bitstream::hevc_sets::ParameterSets;
use crate::decode::pool::DecoderKey;
use crate::decode::{Lease, SampleReader};
use crate::error::Result;
use crate::picture_memory::Reservation;
use crate::plan::runs::PlannedRun;
use crate::session::shared::{VideoState, WIDTHS};

/// Pictures that a decode run is expected to hold at the same time, and the least bytes for a run.
const PICTURES_OF_RUN: u64 = 4;
const LEAST_PICTURES: u64 = 2 << 20;

/// Rows of blocks that can be decoded side by side, for each thread, at least: with fewer, threads often wait for the
/// row above theirs.
const ROWS_A_THREAD: usize = 4;

impl VideoState {
    pub(crate) fn reader(&self, zeros: bool) -> SampleReader<'_> {
        // VP9 does not detect damage: its range decoder reads past the end of the data. So there is no second try with
        // zeros.
        let zeros = zeros || self.track.codec == Codec::Vp9;
        let counters = &self.engine.counters;
        SampleReader {
            track: &self.track,
            source: &*self.source,
            planner: &self.planner,
            zeros,
            counters,
            may_read: None,
            checkpoint_writer: None,
        }
    }

    /// A decoder with `threads` frame threads. In H.265 it reports damage: libavcodec itself does not report slices
    /// that it cannot decode.
    pub(crate) fn lease(&self, threads: usize, memory: Option<&Reservation>) -> Result<Lease> {
        self.lease_with(frame_threads(threads), memory)
    }

    /// The kind of decoder for a planned decode run. A run in which most pictures are targets is treated as a
    /// sequential decode.
    pub(crate) fn key_for(&self, threads: usize, planned_run: &PlannedRun) -> DecoderKey {
        let is_run = planned_run.is_dense() && planned_run.samples.len() > threads;
        self.key(if is_run { self.use_of_run(threads) } else { self.use_of(threads, &planned_run.samples) })
    }

    fn lease_with(&self, threads: Threads, memory: Option<&Reservation>) -> Result<Lease> {
        self.charged(self.engine.pool.lease(self.key(threads), &self.track), memory)
    }

    /// Charges the decoder's pictures to the run's reservation.
    fn charged(&self, lease: Result<Lease>, memory: Option<&Reservation>) -> Result<Lease> {
        let lease = lease.map_err(|error| error.of(self.source.name()))?;
        Ok(match memory {
            Some(memory) => lease.charged_to(memory),
            None => lease,
        })
    }

    /// Estimated bytes of a decode run's pictures: a few pictures, or as many bytes as earlier runs took.
    pub(crate) fn picture_bytes_of_run(&self, threads: usize) -> u64 {
        let (width, height) = self.track.parameters.size();
        let planes = self.track.parameters.pixel_format().map_or(1, |format| {
            let bytes = |plane: &PlaneLayout| plane.bytes_per_column << 4 >> (plane.log2_width + plane.log2_height);
            format.planes().iter().map(bytes).sum::<usize>().div_ceil(16)
        });
        let picture = (width * height * (planes + 1)) as u64;
        let least = LEAST_PICTURES + PICTURES_OF_RUN * picture;
        // The peak of a run that exceeded the budget, and so ran alone, does not make the next run exceed it.
        let before = self.pictures_of_run[width_class(threads)].load(Relaxed);
        least.max(before).min(self.engine.pictures.largest_run())
    }

    /// Records the peak of a run's picture memory.
    pub(crate) fn record_peak(&self, threads: usize, memory: &Reservation) {
        let peak = &self.pictures_of_run[width_class(threads)];
        let before = peak.load(Relaxed);
        // The peak of a single exceptional run decays.
        peak.store(memory.account().peak().max(before - before / 8), Relaxed);
    }

    /// A decoder for all samples in a row. For the last resort it is a fresh one with one thread: libavcodec's output
    /// for damage depends on the samples that it has decoded, and with several threads differs from run to run.
    pub(crate) fn sequential_lease(&self, is_last_resort: bool, memory: Option<&Reservation>) -> Result<Lease> {
        if !is_last_resort {
            let threads =
                if memory.is_some_and(Reservation::is_exclusive) { 1 } else { self.engine.sequential_threads };
            return self.lease_with(self.use_of_run(threads), memory);
        }
        // The result for the frame must not depend on earlier requests.
        self.probe_slice_ends(memory);
        self.charged(
            self.engine.pool.lease_fresh(DecoderKey { lenient: true, ..self.key(Threads::One) }, &self.track),
            memory,
        )
    }

    pub(crate) fn key(&self, threads: Threads) -> DecoderKey {
        let check_ends = !self.has_loose_ends.get().copied().unwrap_or(false);
        DecoderKey { video: self.id, threads, lenient: false, check_ends }
    }

    /// Probes, the first time that the end of a slice or tile is the only sign of damage (`found`), whether it is a
    /// sign in this video: some encoders never end their slices or tiles as the standards require. The first samples of
    /// the clip decide, so that all requests get the same results.
    pub(crate) fn learn_slice_ends(&self, found: DamageSign, memory: Option<&Reservation>) {
        if found == DamageSign::End {
            self.probe_slice_ends(memory);
        }
    }

    /// Decodes the first samples, once for a video. Learns nothing if memory for their pictures was refused.
    fn probe_slice_ends(&self, memory: Option<&Reservation>) {
        if self.has_loose_ends.get().is_none() {
            let is_anywhere = !self.slice_ends_hold(memory);
            if memory.and_then(Reservation::refusal).is_none() {
                let _ = self.has_loose_ends.set(is_anywhere);
            }
        }
    }

    /// True unless almost none of the first pictures has the required slice ends; in AV1, unless none of the first key
    /// frames has.
    fn slice_ends_hold(&self, memory: Option<&Reservation>) -> bool {
        const SAMPLES: u32 = 16;
        const KEY_FRAMES: usize = 4;
        let samples = &self.track.samples;
        if self.track.codec == Codec::Av1 {
            let keys = (0..).zip(samples).filter(|(_, sample)| sample.key).map(|(index, _)| index);
            let accepts = |check_ends: bool, key: u32| {
                self.strict_lease(check_ends, memory).is_ok_and(|mut lease| self.reader(true).accepts(&mut lease, key))
            };
            let mut only_loose = 0;
            for key in keys.take(KEY_FRAMES) {
                if accepts(true, key) {
                    return true;
                }
                only_loose += u32::from(accepts(false, key));
            }
            // A single one may be damaged.
            return only_loose < 2;
        }
        let key = DecoderKey { lenient: true, check_ends: true, ..self.key(Threads::One) };
        let Ok(mut lease) = self.charged(self.engine.pool.lease_fresh(key, &self.track), memory) else { return true };
        let (mut kept, mut loose) = (0, 0);
        let last = (samples.len() as u32).min(SAMPLES) - 1;
        let _ = self.reader(true).inspect_each(&mut lease, 0, last, &mut |found| match found {
            DamageSign::Nothing => kept += 1,
            DamageSign::End => loose += 1,
            DamageSign::Damage => {}
        });
        // If there are only a few, they may be damaged.
        loose < 4 || kept * 8 >= loose
    }

    pub(crate) fn strict_lease(&self, check_ends: bool, memory: Option<&Reservation>) -> Result<Lease> {
        let key = DecoderKey { check_ends, ..self.key(Threads::One) };
        self.charged(self.engine.pool.lease_fresh(key, &self.track), memory)
    }

    /// How a decoder uses `threads` threads for these samples. Frame threads gain little where each picture refers to
    /// the preceding one, as the targets of a pruned run do, and nothing for a few pictures: for those wavefronts are
    /// used if the stream has them. A decode from the random access point
    /// ([`EngineBuilder::from_random_access_point`](crate::EngineBuilder::from_random_access_point)) uses frame
    /// threads, as players do.
    pub(crate) fn use_of(&self, threads: usize, samples: &[u32]) -> Threads {
        let span = samples.first().zip(samples.last()).map_or(0, |(first, last)| (last - first) as usize + 1);
        let is_chain = samples.len() < span || span <= threads;
        if threads > 1
            && is_chain
            && !self.engine.from_random_access_point
            && self.rows_side_by_side() >= ROWS_A_THREAD * threads
        {
            return Threads::Slice(threads);
        }
        frame_threads(threads)
    }

    /// As `use_of`, for all samples in a row: wavefronts were measured to be up to an eighth faster on two cores, and
    /// never slower. They cannot use more threads than processors.
    fn use_of_run(&self, threads: usize) -> Threads {
        let useful = threads.min(self.engine.processors);
        if useful > 1 && !self.engine.from_random_access_point && self.rows_side_by_side() >= ROWS_A_THREAD * useful {
            return Threads::Slice(useful);
        }
        frame_threads(threads)
    }

    fn rows_side_by_side(&self) -> usize {
        let rows = || {
            if self.track.codec != Codec::Hevc {
                return 0;
            }
            let mut sets = ParameterSets::from_configuration(self.track.parameters.extradata());
            // Parameter sets that are not in the configuration come with the first sample.
            if sets.is_empty()
                && let Ok(first) = self.track.read(&*self.source, 0, false)
            {
                self.track.framing.units(first.data()).for_each(|unit| _ = sets.absorb(unit));
            }
            sets.rows_side_by_side()
        };
        *self.rows_side_by_side.get_or_init(rows) as usize
    }
}

/// The index into `pictures_of_run` for runs with this number of threads.
fn width_class(threads: usize) -> usize {
    (threads.max(1).ilog2() as usize).min(WIDTHS - 1)
}

fn frame_threads(threads: usize) -> Threads {
    if threads == 1 { Threads::One } else { Threads::Frame(threads) }
}
