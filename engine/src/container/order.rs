//! Presentation order: maps frame numbers to displayable samples.

use super::Sample;
use super::pictures::OutputPosition;

/// Frames by presentation time. A timeline may restart (streams joined end to end): if decoding times decrease at a
/// sync sample, the samples from there on are presented after the earlier ones.
pub(super) fn by_pts(samples: &[Sample]) -> Vec<u32> {
    let mut frames = Vec::with_capacity(samples.len());
    let mut part = 0;
    for (index, sample) in samples.iter().enumerate() {
        if sample.key && index > 0 && falls_back(&samples[index - 1], sample) {
            part = frames.len();
        }
        if sample.is_displayable() {
            frames.push(index as u32);
        }
        let last = index + 1 == samples.len();
        if last || (samples[index + 1].key && falls_back(sample, &samples[index + 1])) {
            // Stable: samples with equal times stay in decode order.
            frames[part..].sort_by_key(|&frame| samples[frame as usize].pts);
        }
    }
    frames
}

fn falls_back(before: &Sample, after: &Sample) -> bool {
    matches!((before.dts, after.dts), (Some(before), Some(after)) if after < before)
}

/// True if no two frames have the same time. (A segmenter that writes wrong composition offsets at segment starts
/// produces equal times; picture order then gives the decoder's output order.)
pub(super) fn has_distinct_pts(samples: &[Sample], frames: &[u32]) -> bool {
    frames.windows(2).all(|pair| samples[pair[0] as usize].pts != samples[pair[1] as usize].pts)
}

/// Frames by coded video sequence and picture order count (H.265 C.5.2, H.264 C.4.5.3): for streams without times.
pub(super) fn by_picture_order(samples: &[Sample], positions: &[OutputPosition]) -> Vec<u32> {
    let mut frames: Vec<u32> = (0..samples.len() as u32).filter(|&at| samples[at as usize].is_displayable()).collect();
    frames.sort_by_key(|&at| (positions[at as usize].sequence, positions[at as usize].picture_order_count));
    frames
}

#[cfg(test)]
pub(super) mod tests {
    use super::{OutputPosition, Sample, by_picture_order, by_pts, has_distinct_pts};

    pub(crate) fn sample(dts: i64, pts: i64, key: bool) -> Sample {
        Sample {
            offset: 0,
            size: 1,
            description: 0,
            key,
            discard: false,
            silent: false,
            pts,
            dts: Some(dts),
            duration: 1,
        }
    }

    #[test]
    fn frames_are_ordered_by_time_and_leave_out_what_is_not_shown() {
        let mut samples = vec![sample(0, 0, true), sample(1, 4, false), sample(2, 2, false), sample(3, 1, false)];
        assert_eq!(by_pts(&samples), [0, 3, 2, 1]);
        assert!(has_distinct_pts(&samples, &by_pts(&samples)));
        samples[1].pts = 1;
        assert!(!has_distinct_pts(&samples, &by_pts(&samples)));
        samples[1].pts = 4;
        samples[2].discard = true;
        samples[3].silent = true;
        assert_eq!(by_pts(&samples), [0, 1]);
        assert_eq!(by_pts(&[]), Vec::<u32>::new());
    }

    #[test]
    fn a_timeline_that_starts_again_is_presented_after_the_first() {
        let samples = [
            sample(10, 10, true),
            sample(11, 12, false),
            sample(12, 11, false),
            sample(0, 0, true),
            sample(1, 1, false),
        ];
        assert_eq!(by_pts(&samples), [0, 2, 1, 3, 4]);
    }

    #[test]
    fn picture_order_counts_start_again_with_each_sequence() {
        let samples = [sample(0, 0, true); 5];
        let place = |sequence, picture_order_count| OutputPosition { sequence, picture_order_count };
        let places = [place(0, 0), place(0, 8), place(0, 4), place(1, 0), place(1, -2)];
        assert_eq!(by_picture_order(&samples, &places), [0, 2, 1, 4, 3]);
    }
}
