//! Valid names of videos. All kinds of roots have one rule: a name that one of them could misinterpret is invalid in
//! all.

/// Most bytes of a name: `PATH_MAX` of Linux.
const LONGEST: usize = 4096;

/// Extensions of videos, for listings, which do not open files.
const EXTENSIONS: [&str; 31] = [
    "264", "265", "3g2", "3gp", "asf", "av1", "avc", "avi", "f4v", "flv", "h264", "h265", "hevc", "ivf", "m2t", "m2ts",
    "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf", "obu", "ogv", "ts", "vob", "webm", "wmv", "y4m",
];

/// Whether a video can have that name: non-empty segments between slashes, none of them `.` or `..`, without
/// backslashes, which some servers treat as slashes, and without control characters.
pub(super) fn is_name(video: &str) -> bool {
    video.len() <= LONGEST && video.split('/').all(is_segment)
}

/// Whether a file or folder in a root can have that name: one segment of a valid name.
pub(super) fn is_segment(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && !name.contains(|letter: char| matches!(letter, '/' | '\\') || letter.is_control())
}

/// Whether a video with that path is listed. Files whose names begin with a dot are hidden, and so are the files in
/// such folders.
pub(super) fn is_video(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    is_name(path) && has_extension(last) && !path.split('/').any(is_hidden)
}

pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

pub(super) fn has_extension(file: &str) -> bool {
    let extension = file.rsplit_once('.').map(|(_, extension)| extension);
    extension.is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// The part of an invalid name that a message may repeat: at most 100 bytes, up to the first control character, since
/// messages are one line.
pub(super) fn printable(video: &str) -> &str {
    let end = video.find(char::is_control).unwrap_or(video.len()).min(100);
    &video[..video.floor_char_boundary(end)]
}

#[cfg(test)]
mod tests {
    use super::{is_name, is_video, printable};

    #[test]
    fn names_are_segments_without_any_meaning() {
        for name in ["a", "cams/a.mp4", "a b/ü?c#d%2e.mp4", "...", "..a/b", "%2e%2e/a", "~/a", "C:/a", "-a"] {
            assert!(is_name(name), "{name}");
        }
        let none = [
            "", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/..", "../a", "a/../b", "a\0b", "a\\b", "..\\a",
            "a\nb", "a\u{7f}", "a\u{85}",
        ];
        for name in none {
            assert!(!is_name(name), "{name:?}");
        }
        assert!(!is_name(&"a/".repeat(3000)) && !is_name(&"a".repeat(5000)));
        assert!(is_video("a/b.MP4") && !is_video(".a/b.mp4") && !is_video("a/.mp4") && !is_video("mp4"));
        assert_eq!(printable("a\nb"), "a");
        assert_eq!(printable(&"ü".repeat(90)).len(), 100);
    }
}
