//! The text of `--version`: the linked parts, their configuration and their licences.

/// The long version text.
pub(crate) fn long() -> String {
    let features = Some(env!("BUCKET_STREAMER_FEATURES")).filter(|features| !features.is_empty()).unwrap_or("none");
    let mut text = format!(
        "{} (MIT OR Apache-2.0)\n\nBuilt on commit {} by rustc {}, with the features {features}\n\n\
         Statically linked:\n",
        env!("CARGO_PKG_VERSION"),
        env!("BUCKET_STREAMER_SOURCE"),
        env!("BUCKET_STREAMER_RUSTC"),
    );
    for part in ffi::components() {
        text += &format!("  {} {} ({}) {}\n", part.name, part.version, part.licence, part.homepage);
    }
    #[cfg(feature = "mimalloc")]
    {
        text += "  mimalloc (MIT) https://github.com/microsoft/mimalloc\n";
    }
    text += "\nFFmpeg is configured with:\n";
    for argument in arguments(&ffi::ffmpeg_configuration()) {
        text += &format!("  {argument}\n");
    }
    text += "\nFFmpeg's LGPL requires distributors of this binary to provide its licence text, its source, and the \
             means to link the program with a changed FFmpeg. See LICENSING.md.";
    text
}

/// Splits at blanks outside quotes.
fn arguments(line: &str) -> Vec<String> {
    let (mut arguments, mut is_quoted) = (vec![String::new()], false);
    for c in line.chars() {
        is_quoted ^= c == '\'';
        match arguments.last_mut() {
            Some(last) if c != ' ' || is_quoted => last.push(c),
            _ => arguments.push(String::new()),
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::arguments;

    #[test]
    fn quoted_arguments_stay_whole() {
        assert_eq!(arguments("--a --b='c d' --e"), ["--a", "--b='c d'", "--e"]);
    }
}
