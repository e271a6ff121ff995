//! Checks the files of reports: none may be an input, and all must be writable.

use std::path::{Path, PathBuf};

use super::args::BenchArguments;
use crate::host::{BenchContext, BenchOutcome};

/// Checks before measuring, which may take an hour.
///
/// # Errors
/// The outcome of the command, after `host` has printed the reason.
pub(super) fn check(arguments: &BenchArguments, context: &BenchContext) -> Result<(), BenchOutcome> {
    let host = context.host;
    let refuse = |outcome, why: &str| {
        host.say(why);
        Err(outcome)
    };
    let inputs = inputs(arguments, context);
    let mut outputs: Vec<PathBuf> = files(arguments).map(PathBuf::from).collect();
    // The names of plots are not known yet, so no existing plot may be an input.
    let plots = arguments.plots.as_deref().and_then(|folder| std::fs::read_dir(folder).ok());
    outputs.extend(plots.into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| is_plot(path)));
    for output in &outputs {
        if let Some(input) = inputs.iter().find(|input| host.is_same_file(input, output)) {
            let output = output.display();
            return refuse(
                BenchOutcome::Usage,
                &format!("{output} is the input {input}: the report would overwrite it"),
            );
        }
    }
    for file in files(arguments) {
        if let Err(error) = host.check_writable(Path::new(file)) {
            return refuse(BenchOutcome::SomeFailed, &error.to_string());
        }
    }
    Ok(())
}

fn files(arguments: &BenchArguments) -> impl Iterator<Item = &str> {
    [&arguments.json, &arguments.html].into_iter().flatten().map(String::as_str).filter(|file| *file != "-")
}

fn is_plot(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "svg")
}

/// All inputs; of a folder, the files in it.
fn inputs(arguments: &BenchArguments, context: &BenchContext) -> Vec<String> {
    let corpus = std::env::var(super::all::VARIABLE).ok();
    let list = arguments.indices.as_deref().and_then(|list| list.strip_prefix('@')).map(str::to_owned);
    let named = [arguments.video.clone(), corpus, context.opening.index_location().map(str::to_owned), list];
    #[cfg(feature = "client")]
    let named = named.into_iter().chain([arguments.client.check.clone(), arguments.client.copy.clone()]);
    let mut inputs = Vec::new();
    for input in named.into_iter().flatten() {
        match std::fs::read_dir(&input) {
            Ok(entries) => inputs.extend(entries.flatten().map(|entry| entry.path().to_string_lossy().into_owned())),
            Err(_) => inputs.push(input),
        }
    }
    inputs
}
