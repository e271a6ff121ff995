//! `bench all`: every scenario with every engine over a folder of videos, and what speed depends on.

use super::args::BenchArguments;
use super::setup::Setup;
use crate::cli::Outcome;

pub(crate) fn run(_arguments: &BenchArguments, _setup: &Setup) -> Outcome {
    Outcome::Usage
}
