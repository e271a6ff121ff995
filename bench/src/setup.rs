//! The setup of measurements: all arguments except the video and the scenario. `all` varies it.

use bucket_streamer::{Device, DeviceChoice, Engine, EngineBuilder, Result};

use super::args::{BenchArguments, EngineName, Output};
use super::records::{ReportPart, SetupRecord};
use crate::host::BenchContext;

/// The arguments that may change from one measurement to the next.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) engines: Vec<EngineName>,
    pub(crate) output: Output,
    pub(crate) threads: Option<usize>,
    pub(crate) context: BenchContext,
    pub(crate) rounds: u16,
    /// Whether to compare every frame with a sequential decode.
    pub(crate) check: bool,
    pub(crate) floor: bool,
    /// Whether to report each request.
    pub(crate) each: bool,
    /// Whether to report the MD5 of its planes, too.
    pub(crate) md5: bool,
    pub(crate) count: Option<u32>,
    pub(crate) seed: Option<u64>,
    pub(crate) warm: u32,
    pub(crate) load: RequestLoad,
    pub(crate) checkpoint_memory: Option<u64>,
    pub(crate) checkpoint_spacing: Option<u32>,
    /// The name of the video, if that is not its location.
    pub(crate) name: Option<&'static str>,
    /// The purpose of the measurement in a report of many.
    pub(crate) part: Option<ReportPart>,
}

/// The number of concurrent callers, and the rate of requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RequestLoad {
    pub(crate) callers: usize,
    /// Requests per second that fall due, answered or not.
    pub(crate) rate_per_s: Option<f64>,
}

impl Default for RequestLoad {
    /// One caller, without a rate.
    fn default() -> RequestLoad {
        RequestLoad { callers: 1, rate_per_s: None }
    }
}

impl Setup {
    /// Prints one line on standard error: the resources that results depend on.
    pub(crate) fn print_resources(&self) {
        if let Ok(engine) = self.engine(EngineName::Cpu) {
            self.context.host.say(&self.context.host.resources(&engine));
        }
    }

    pub(crate) fn of(arguments: &BenchArguments, context: &BenchContext) -> Setup {
        Setup {
            engines: if arguments.engine.is_empty() { vec![EngineName::Cpu] } else { arguments.engine.clone() },
            output: arguments.output,
            threads: arguments.threads.map(usize::from),
            context: context.clone(),
            rounds: arguments.rounds.unwrap_or(1),
            check: !arguments.no_check,
            floor: !arguments.no_floor,
            md5: arguments.md5,
            each: arguments.md5 || arguments.indices.is_some(),
            count: arguments.count,
            seed: arguments.seed,
            warm: arguments.warm,
            load: RequestLoad { callers: arguments.callers.into(), rate_per_s: arguments.rate },
            checkpoint_memory: arguments.checkpoint_memory.map(|size| size.0),
            checkpoint_spacing: arguments.checkpoint_spacing,
            name: None,
            part: None,
        }
    }

    /// Whether there is a round for MD5s.
    pub(crate) fn sums(&self) -> bool {
        self.check || self.md5
    }

    /// A builder with the threads and limits of every engine.
    pub(crate) fn builder(&self) -> EngineBuilder {
        let builder = self.context.engine.clone();
        match self.threads {
            Some(threads) => builder.threads(threads),
            None => builder,
        }
    }

    /// An engine that has decoded nothing yet.
    ///
    /// # Errors
    /// `Device`, if the GPU is no longer available.
    pub(crate) fn engine(&self, kind: EngineName) -> Result<Engine> {
        let mut builder = self.builder();
        if let Some(bytes) = self.checkpoint_memory {
            builder = builder.checkpoint_memory(bytes);
        }
        if let Some(pictures) = self.checkpoint_spacing {
            builder = builder.checkpoint_spacing(pictures);
        }
        Ok(match kind {
            EngineName::FromKey => builder.from_random_access_point().build(),
            EngineName::Nvdec => builder.device(Device::open(DeviceChoice::Nvdec(0))?).build(),
            _ => builder.build(),
        })
    }

    pub(crate) fn record(&self) -> SetupRecord {
        SetupRecord {
            part: self.part,
            callers: self.load.callers,
            rate_per_s: self.load.rate_per_s,
            warm: self.warm,
            checkpoint_memory_bytes: self.checkpoint_memory,
            checkpoint_spacing: self.checkpoint_spacing,
        }
    }
}
