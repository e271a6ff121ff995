//! How measurements are made: everything that can be typed but the video and the scenario. `all` varies it.

use bucket_streamer::{Device, DeviceChoice, Engine, EngineBuilder, Result};

use super::args::{BenchArguments, EngineName, Output};
use super::entry::{Part, SetupTold};
use crate::host::Given;

/// What is typed once and may be changed from one measurement to the next.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) engines: Vec<EngineName>,
    pub(crate) output: Output,
    pub(crate) threads: Option<usize>,
    pub(crate) given: Given,
    pub(crate) rounds: u16,
    /// Compare every frame with a sequential decode?
    pub(crate) check: bool,
    pub(crate) floor: bool,
    /// Tell each request?
    pub(crate) each: bool,
    /// ... with the MD5 of its planes?
    pub(crate) md5: bool,
    pub(crate) count: Option<u32>,
    pub(crate) seed: Option<u64>,
    pub(crate) warm: u32,
    pub(crate) load: Load,
    pub(crate) checkpoint_memory: Option<u64>,
    pub(crate) checkpoint_spacing: Option<u32>,
    /// What the video is called, where that is not its place.
    pub(crate) name: Option<&'static str>,
    /// What the measurement is for in a report of many.
    pub(crate) part: Option<Part>,
}

/// How many ask at the same time, and how often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    pub(crate) callers: usize,
    /// Requests fall due so many times a second, answered or not.
    pub(crate) rate_per_s: Option<f64>,
}

impl Default for Load {
    /// One after the other.
    fn default() -> Load {
        Load { callers: 1, rate_per_s: None }
    }
}

impl Setup {
    /// One line on standard error: what is measured depends on it.
    pub(crate) fn say_what_is_given(&self) {
        if let Ok(engine) = self.engine(EngineName::Cpu) {
            self.given.host.say(&self.given.host.resources(&engine));
        }
    }

    pub(crate) fn of(arguments: &BenchArguments, given: &Given) -> Setup {
        Setup {
            engines: if arguments.engine.is_empty() { vec![EngineName::Cpu] } else { arguments.engine.clone() },
            output: arguments.output,
            threads: arguments.threads.map(usize::from),
            given: given.clone(),
            rounds: arguments.rounds.unwrap_or(1),
            check: !arguments.no_check,
            floor: !arguments.no_floor,
            md5: arguments.md5,
            each: arguments.md5 || arguments.indices.is_some(),
            count: arguments.count,
            seed: arguments.seed,
            warm: arguments.warm,
            load: Load { callers: arguments.callers.into(), rate_per_s: arguments.rate },
            checkpoint_memory: arguments.checkpoint_memory.map(|size| size.0),
            checkpoint_spacing: arguments.checkpoint_spacing,
            name: None,
            part: None,
        }
    }

    /// Is there a round for MD5s?
    pub(crate) fn sums(&self) -> bool {
        self.check || self.md5
    }

    /// Threads and limits of every engine.
    pub(crate) fn builder(&self) -> EngineBuilder {
        let builder = self.given.engine.clone();
        match self.threads {
            Some(threads) => builder.threads(threads),
            None => builder,
        }
    }

    /// An engine that has decoded nothing yet.
    ///
    /// # Errors
    /// `Device`, for a GPU that is gone.
    pub(crate) fn engine(&self, kind: EngineName) -> Result<Engine> {
        let mut builder = self.builder();
        if let Some(bytes) = self.checkpoint_memory {
            builder = builder.checkpoint_memory(bytes);
        }
        if let Some(pictures) = self.checkpoint_spacing {
            builder = builder.checkpoint_spacing(pictures);
        }
        Ok(match kind {
            EngineName::FromKey => builder.from_entry().build(),
            EngineName::Nvdec => builder.device(Device::open(DeviceChoice::Nvdec(0))?).build(),
            _ => builder.build(),
        })
    }

    pub(crate) fn told(&self) -> SetupTold {
        SetupTold {
            part: self.part,
            callers: self.load.callers,
            rate_per_s: self.load.rate_per_s,
            warm: self.warm,
            checkpoint_memory_bytes: self.checkpoint_memory,
            checkpoint_spacing: self.checkpoint_spacing,
        }
    }
}
