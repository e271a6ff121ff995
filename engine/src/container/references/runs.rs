//! AV1 and VP9: the references of samples, in runs that begin at a random access point.

use super::MOST;
use crate::bitstream::references::SampleReferences;

/// The samples from a random access point on. Their references are the same for a decode from any of the run's sync
/// samples with a key frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReferenceRun {
    first: u32,
    units: u32,
    row: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SampleRow {
    /// The sample could not be parsed.
    is_unknown: bool,
    is_key: bool,
    refreshes: bool,
    shows: bool,
    /// End of its references; they begin at the end of the preceding row's.
    end: u32,
}

/// All runs of a track.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReferenceRuns {
    runs: Vec<ReferenceRun>,
    rows: Vec<SampleRow>,
    refs: Vec<u32>,
    /// The last key frame of the last run; `None` if a later sample could not be parsed.
    last_key: Option<u32>,
}

impl ReferenceRuns {
    /// Begins a run at a sample after the last run.
    pub(crate) fn begin(&mut self, first: u32) -> Result<(), &'static str> {
        if self.runs.last().is_some_and(|run| first < run.first + run.units.max(1)) {
            return Err("runs are not in order");
        }
        self.last_key = None;
        self.runs.push(ReferenceRun { first, units: 0, row: self.rows.len() as u32 });
        Ok(())
    }

    /// Adds the next sample of the run. A refused sample is not added.
    pub(crate) fn push(&mut self, unit: Option<&SampleReferences>) -> Result<(), &'static str> {
        let Some(run) = self.runs.last_mut() else { return Err("a sample has no run") };
        let sample = run.first + run.units;
        if let Some(unit) = unit {
            let Some(since) = (if unit.is_key { Some(sample) } else { self.last_key }) else {
                return Err("a known sample follows an unknown one");
            };
            let is_earlier = unit.refs.iter().all(|of| (since..sample).contains(of));
            if !is_earlier || unit.refs.len() > MOST || unit.refs.windows(2).any(|pair| pair[0] >= pair[1]) {
                return Err("a sample refers to one that it cannot refer to");
            }
            self.refs.extend(&unit.refs);
            self.last_key = Some(since);
        } else {
            if run.units == 0 {
                return Err("a run does not begin with a key frame");
            }
            self.last_key = None;
        }
        run.units += 1;
        self.rows.push(SampleRow {
            is_unknown: unit.is_none(),
            is_key: unit.is_some_and(|unit| unit.is_key),
            refreshes: unit.is_some_and(|unit| unit.refreshes),
            shows: unit.is_some_and(|unit| unit.shows),
            end: self.refs.len() as u32,
        });
        Ok(())
    }

    /// First samples of runs.
    pub(crate) fn firsts(&self) -> impl Iterator<Item = u32> {
        self.runs.iter().map(|run| run.first)
    }

    /// First sample and number of samples of each run.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.runs.iter().map(|run| (run.first, run.units))
    }

    fn run(&self, sample: u32) -> Option<ReferenceRun> {
        let at = self.runs.partition_point(|run| run.first <= sample).checked_sub(1)?;
        Some(self.runs[at]).filter(|run| sample - run.first < run.units)
    }

    /// The references of a sample when decoding begins at the sync sample `first`; `Some(None)` if it could not be
    /// parsed, `None` if the table does not have it.
    pub(crate) fn unit(&self, first: u32, sample: u32) -> Option<Option<SampleReferences>> {
        let run = self.run(sample).filter(|run| run.first <= first && first <= sample)?;
        let row = |sample: u32| (run.row + (sample - run.first)) as usize;
        self.rows[row(first)].is_key.then(|| self.at(row(sample)))
    }

    /// All units of a run, by its first sample.
    pub(crate) fn of_run(&self, first: u32) -> impl Iterator<Item = Option<SampleReferences>> {
        let rows = self.run(first).map_or(0..0, |run| run.row as usize..(run.row + run.units) as usize);
        rows.map(|row| self.at(row))
    }

    fn at(&self, row: usize) -> Option<SampleReferences> {
        let begin = row.checked_sub(1).map_or(0, |before| self.rows[before].end) as usize;
        let SampleRow { is_unknown, is_key, refreshes, shows, end } = self.rows[row];
        (!is_unknown).then(|| SampleReferences {
            refs: self.refs[begin..end as usize].to_vec(),
            is_key,
            refreshes,
            shows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{ReferenceRuns, SampleReferences};

    fn unit(refs: &[u32]) -> SampleReferences {
        SampleReferences { refs: refs.into(), is_key: refs.is_empty(), refreshes: true, shows: true }
    }

    #[test]
    fn a_run_begins_at_any_of_its_key_frames() {
        let mut units = ReferenceRuns::default();
        assert!(units.push(Some(&unit(&[]))).is_err(), "no run");
        units.begin(2).expect("a run");
        assert!(units.push(None).is_err() && units.push(Some(&unit(&[1]))).is_err());
        for unit in [Some(unit(&[])), Some(unit(&[2])), Some(unit(&[])), None] {
            units.push(unit.as_ref()).expect("a sample");
        }
        assert!(units.push(Some(&unit(&[5]))).is_err(), "after a sample that could not be parsed");
        assert!(units.begin(5).is_err());
        assert_eq!(units.unit(2, 3), Some(Some(unit(&[2]))));
        assert_eq!((units.unit(4, 5), units.unit(3, 4), units.unit(2, 6)), (Some(None), None, None));
        units.begin(6).expect("a run");
        units.push(Some(&unit(&[]))).expect("a sample");
        assert!(units.push(Some(&unit(&[5]))).is_err(), "outside of the run");
        assert_eq!((units.unit(2, 6), units.unit(6, 6)), (None, Some(Some(unit(&[])))));
        assert_eq!(units.of_run(2).count(), 4);
    }
}
