//! The frames of a scenario, their order and their request mode. `own_engine`, `ffmpeg_cli` and `client` issue the
//! requests.

use std::collections::BTreeSet;

use bucket_streamer::Video;

use super::args::{BenchArguments, Scenario};
use super::host::BenchContext;
use super::setup::Setup;
use bucket_streamer::quantities::frame_list;

/// Default number of frames or steps.
pub(super) const COUNT: u32 = 60;
/// Default seed.
pub(super) const SEED: u64 = 1;
/// Small steps to and fro, and jumps: more forward than back, so that a long run covers the whole video.
const STEPS: [i64; 12] = [1, 1, 1, 1, -1, -1, 10, 1, 1, -1, -10, 10];

/// The mode of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestMode {
    /// A request for each frame, after the response to the one before.
    OneByOne,
    /// All frames in one request. Latency counts from its start.
    Batch,
    /// All frames in one request. Latency counts from the frame before.
    Keyframes,
    /// All frames from the first one on, from a sequential decode. Latency counts from the frame before.
    Sequential,
}

/// The requests of a round.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) mode: RequestMode,
    /// Frame numbers, which may be out of range.
    pub(crate) frames: Vec<u32>,
    /// Frames that are requested before the clock starts.
    pub(crate) before: Vec<u32>,
}

impl Scenario {
    fn request_mode(self) -> RequestMode {
        match self {
            Scenario::Random | Scenario::Scrub => RequestMode::OneByOne,
            Scenario::Batch => RequestMode::Batch,
            Scenario::Keyframes => RequestMode::Keyframes,
            Scenario::Sequential | Scenario::All => RequestMode::Sequential,
            #[cfg(feature = "client")]
            Scenario::Http | Scenario::Ws => RequestMode::OneByOne,
        }
    }

    /// Whether the scenario requests frames from a server instead of an engine.
    pub(super) fn is_of_server(self) -> bool {
        #[cfg(feature = "client")]
        return matches!(self, Scenario::Http | Scenario::Ws);
        #[cfg(not(feature = "client"))]
        false
    }

    /// Whether the video alone determines the frames.
    fn has_fixed_frames(self) -> bool {
        matches!(self, Scenario::Keyframes | Scenario::Sequential | Scenario::All)
    }
}

/// The list of `--indices`, if there is one.
///
/// # Errors
/// The fault of the list, or of options of requests, as a message for the user.
pub(crate) fn listed(arguments: &BenchArguments, context: &BenchContext) -> Result<Option<Vec<u32>>, String> {
    let scenario = arguments.scenario;
    let has_single_requests = matches!(scenario, Scenario::Random | Scenario::Scrub) || scenario.is_of_server();
    if !has_single_requests && (arguments.callers > 1 || arguments.rate.is_some()) {
        return Err("--callers and --rate apply to random, scrub, http and ws only".into());
    }
    if arguments.warm > 0 && !has_single_requests && arguments.scenario != Scenario::Batch {
        return Err("--warm applies to random, batch and scrub only".into());
    }
    if arguments.scenario == Scenario::All && context.opening.index_location().is_some() {
        return Err("--index belongs to one video, but all measures many: leave it out".into());
    }
    let Some(list) = &arguments.indices else { return Ok(None) };
    if arguments.scenario.has_fixed_frames() {
        return Err("--indices applies to random, batch, scrub, http and ws only".into());
    }
    let Some(file) = list.strip_prefix('@') else { return frame_list(list).map(Some) };
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let numbers: Vec<&str> =
        text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty()).collect();
    frame_list(&numbers.join(",")).map(Some).map_err(|why| format!("{file}: {why}"))
}

/// The requests of a scenario for a video.
pub(crate) fn requests(scenario: Scenario, setup: &Setup, listed: Option<Vec<u32>>, video: &Video) -> Requests {
    let frames = video.frame_count() as u32;
    let count = setup.count.unwrap_or(COUNT) as usize;
    // A count selects the first of the frames that the video determines.
    let first = setup.count.map_or(usize::MAX, |count| count as usize);
    let seed = setup.seed.unwrap_or(SEED);
    let chosen = listed.unwrap_or_else(|| match scenario {
        Scenario::Random | Scenario::Batch => shuffled(frames, count, seed),
        Scenario::Scrub => scrubbed(frames, count, seed),
        Scenario::Keyframes => video.key_indices().into_iter().take(first).collect(),
        Scenario::Sequential | Scenario::All => (0..frames).take(first).collect(),
        #[cfg(feature = "client")]
        Scenario::Http | Scenario::Ws => Vec::new(),
    });
    // The same random order continues: other frames, as long as there are any.
    let warm = chosen.len() + setup.warm as usize;
    let mut before = if setup.warm > 0 { shuffled(frames, warm, seed).split_off(chosen.len()) } else { Vec::new() };
    let requested: BTreeSet<u32> = chosen.iter().copied().collect();
    before.retain(|frame| !requested.contains(frame));
    Requests { mode: scenario.request_mode(), frames: chosen, before }
}

/// SplitMix64: simple enough to describe in a help text, so that others can request the same frames.
struct SplitMix64(u64);

impl SplitMix64 {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        ((u128::from(x) * u128::from(limit)) >> 64) as u32
    }
}

/// `count` of the numbers below `frames`, each once before any is repeated.
pub(super) fn shuffled(frames: u32, count: usize, seed: u64) -> Vec<u32> {
    let (mut numbers, mut chosen) = (SplitMix64(seed), Vec::with_capacity(count));
    while chosen.len() < count && frames > 0 {
        let mut deck: Vec<u32> = (0..frames).collect();
        for place in 0..frames.min((count - chosen.len()) as u32) {
            let other = place + numbers.below(frames - place);
            deck.swap(place as usize, other as usize);
            chosen.push(deck[place as usize]);
        }
    }
    chosen
}

pub(super) fn scrubbed(frames: u32, count: usize, seed: u64) -> Vec<u32> {
    let range = 0..i64::from(frames);
    let mut place = i64::from(SplitMix64(seed).below(frames));
    let mut chosen = vec![place as u32];
    for step in STEPS.iter().cycle().take(count - 1) {
        let candidates = [place + step, place - step];
        place = candidates.into_iter().find(|way| range.contains(way)).unwrap_or(place);
        chosen.push(place as u32);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{SplitMix64, scrubbed, shuffled};

    #[test]
    fn numbers_are_those_of_splitmix64() {
        // The reference implementation's first output for seed 0 is 0xe220a8397b1dcdaf.
        assert_eq!(SplitMix64(0).below(1 << 16), 0xe220);
        assert_eq!(SplitMix64(0).below(u32::MAX), 0xe220_a838);
    }

    #[test]
    fn every_frame_comes_once_before_any_comes_twice() {
        let chosen = shuffled(10, 25, 3);
        let distinct = |part: &[u32]| part.iter().collect::<BTreeSet<_>>().len();
        assert_eq!((chosen.len(), distinct(&chosen[..10]), distinct(&chosen[10..20])), (25, 10, 10));
        assert_eq!(distinct(&chosen[20..]), 5);
        assert_eq!(shuffled(1000, 5, 1), shuffled(1000, 60, 1)[..5], "more of them begin with the same");
        assert_ne!(shuffled(1000, 5, 1), shuffled(1000, 5, 2));
    }

    #[test]
    fn scrubbing_stays_in_the_video() {
        for frames in [1, 2, 11, 100] {
            let chosen = scrubbed(frames, 200, 5);
            assert!(chosen.len() == 200 && chosen.iter().all(|&frame| frame < frames));
            let step = |pair: &[u32]| pair[0].abs_diff(pair[1]);
            assert!(chosen.windows(2).all(|pair| [0, 1, 10].contains(&step(pair))));
        }
    }
}
