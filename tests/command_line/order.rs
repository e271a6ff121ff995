//! Results are in the order of the request.

use super::*;

/// Across GOPs, backwards, with duplicates, and a missing frame.
const ASKED: &str = "100,3,50-52,3,999,0,100,143,51";
const NUMBERS: [u64; 11] = [100, 3, 50, 51, 52, 3, 999, 0, 100, 143, 51];

#[test]
fn json_lines_follow_the_request_and_a_missing_frame_is_an_error_among_them() {
    let expected = oracle_md5s(&fixture("hevc_closed_gop.mp4"));
    for threads in ["1", "3"] {
        let more = ["--frames", ASKED, "--format", "framemd5", "--json", "--threads", threads];
        let ran = extract("hevc_closed_gop.mp4", &more);
        assert_eq!(ran.code(), 1);
        let lines = ran.json();
        assert_eq!(numbers(&lines), NUMBERS.map(Some));
        for (line, number) in lines.iter().zip(NUMBERS) {
            assert_eq!(line["md5"].as_str(), expected.get(number as usize).map(String::as_str), "frame {number}");
            assert_eq!(line["error"].is_string(), number == 999, "frame {number}");
        }
        check_messages(&ran);
        assert!(ran.stderr.lines().count() == 1 && ran.stderr.contains("hevc_closed_gop.mp4: frame 999: "));
    }
}

#[test]
fn framemd5_lines_follow_the_request() {
    let expected = oracle_md5s(&fixture("hevc_closed_gop.mp4"));
    let ran = extract("hevc_closed_gop.mp4", &["--frames", ASKED, "--format", "framemd5"]);
    let there = NUMBERS.into_iter().filter_map(|number| expected.get(number as usize));
    assert_eq!(md5s_of(ran.text()), there.collect::<Vec<_>>());
    assert_eq!(ran.code(), 1);
}

#[test]
fn bytes_on_standard_output_are_those_of_the_files_in_request_order() {
    for format in ["jpeg", "raw"] {
        let options = ["--frames", "40,2,41,2,47", "--format", format];
        let files = Stills::of("hevc_10bit.mp4", &options).files();
        let piped = extract("hevc_10bit.mp4", &[&options[..], &["--output", "-"]].concat());
        assert_eq!(files.len(), 5);
        assert!(piped.stdout == files.concat(), "{format}");
        assert_eq!(piped.code(), 0);
    }
}
