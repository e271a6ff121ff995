//! `--version`: what is inside, how it was configured, under which licences.

/// The long version text.
pub(crate) fn long() -> String {
    let mut text = format!("{} (MIT OR Apache-2.0)\n\nStatically linked:\n", env!("CARGO_PKG_VERSION"));
    for part in ffi::components() {
        text += &format!("  {} {} ({}) {}\n", part.name, part.version, part.licence, part.homepage);
    }
    text += "\nFFmpeg is configured with:\n";
    for argument in ffi::ffmpeg_configuration().split(" --") {
        text += &format!("  --{}\n", argument.trim_start_matches("--"));
    }
    text += "\nFFmpeg's LGPL asks of whoever passes this binary on: its licence text, its source, and the means to link \
             the program with a changed FFmpeg. See LICENSING.md.";
    text
}
