//! Parses the output of the filter `trace_headers`: units, parameter sets and slice headers of H.265.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use testing::clips::program;

/// A NAL unit: name and value of each syntax element.
#[derive(Debug, Default)]
pub(crate) struct TracedUnit {
    elements: Vec<(String, i64)>,
}

impl TracedUnit {
    pub(crate) fn get(&self, name: &str) -> Option<i64> {
        self.elements.iter().find(|(element, _)| element == name).map(|(_, value)| *value)
    }

    pub(crate) fn kind(&self) -> i64 {
        self.get("nal_unit_type").expect("every unit has a type")
    }
}

/// The filter's output for a clip: units before the first packet, and packets with their size.
pub(crate) struct Trace {
    pub(crate) head: Vec<TracedUnit>,
    pub(crate) packets: Vec<(usize, Vec<TracedUnit>)>,
}

pub(crate) fn trace(clip: &Path) -> Trace {
    let mut command = Command::new(program("ffmpeg"));
    command.args(["-hide_banner", "-nostats", "-nostdin", "-i"]).arg(clip);
    command.args(["-map", "0:v:0", "-c", "copy", "-copyinkf", "-copypriorss", "1"]);
    command.args(["-bsf:v", "trace_headers", "-f", "null", "-"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("to start");
    let mut trace = Trace { head: Vec::new(), packets: Vec::new() };
    for line in BufReader::new(child.stderr.take().expect("a pipe")).split(b'\n') {
        let line = line.expect("to read a pipe");
        let line = String::from_utf8_lossy(&line);
        let Some(text) = line.strip_prefix("[trace_headers").and_then(|line| line.split_once("] ")) else { continue };
        read_line(&mut trace, text.1.trim_end());
    }
    child.wait().expect("an end");
    trace
}

fn read_line(trace: &mut Trace, line: &str) {
    if let Some(packet) = line.strip_prefix("Packet: ") {
        let size = packet.split(' ').next().and_then(|size| size.parse().ok()).expect("a size");
        trace.packets.push((size, Vec::new()));
        return;
    }
    let units = trace.packets.last_mut().map_or(&mut trace.head, |(_, units)| units);
    let element = line.rsplit_once(" = ").and_then(|(left, value)| {
        let mut left = left.split_whitespace();
        left.next()?.parse::<u64>().ok()?;
        Some((left.next()?.to_owned(), value.parse().ok()?))
    });
    let Some(element) = element else { return };
    if element.0 == "forbidden_zero_bit" {
        units.push(TracedUnit::default());
    }
    if let Some(unit) = units.last_mut() {
        unit.elements.push(element);
    }
}

/// Reads the elements of a unit one after another.
struct Cursor<'a>(&'a [(String, i64)]);

impl Cursor<'_> {
    /// The next element, which must have this name.
    fn take(&mut self, name: &str) -> i64 {
        let ((element, value), rest) = self.0.split_first().expect("another element");
        assert!(element == name || element.split('[').next() == Some(name), "{element} instead of {name}");
        self.0 = rest;
        *value
    }

    fn is_next(&self, name: &str) -> bool {
        self.0.first().is_some_and(|(element, _)| element.split('[').next() == Some(name))
    }

    fn if_next(&mut self, name: &str) -> Option<i64> {
        self.is_next(name).then(|| self.take(name))
    }

    fn skip_to(&mut self, names: &[&str]) {
        while !self.0.is_empty() && !names.iter().any(|name| self.is_next(name)) {
            self.0 = &self.0[1..];
        }
    }
}

/// A short-term set: distance, and whether it is used.
type Rps = Vec<(i64, bool)>;

/// `st_ref_pic_set` by the equations (7-61) and (7-62), literally.
fn read_rps(cursor: &mut Cursor, sets: &[Rps], is_slice: bool) -> Rps {
    if !sets.is_empty() && cursor.take("inter_ref_pic_set_prediction_flag") == 1 {
        let back = if is_slice { cursor.take("delta_idx_minus1") as usize + 1 } else { 1 };
        let base = &sets[sets.len() - back];
        let sign = 1 - 2 * cursor.take("delta_rps_sign");
        let delta_rps = sign * (cursor.take("abs_delta_rps_minus1") + 1);
        let flags: Vec<(bool, bool)> = (0..=base.len())
            .map(|_| {
                let used = cursor.take("used_by_curr_pic_flag") == 1;
                (used, used || cursor.take("use_delta_flag") == 1)
            })
            .collect();
        return predict(base, delta_rps, &flags);
    }
    let (negative, positive) = (cursor.take("num_negative_pics"), cursor.take("num_positive_pics"));
    let mut rps = Rps::new();
    for (count, sign, list) in [(negative, -1, "s0"), (positive, 1, "s1")] {
        let mut delta = 0;
        for _ in 0..count {
            delta += sign * (cursor.take(&format!("delta_poc_{list}_minus1")) + 1);
            rps.push((delta, cursor.take(&format!("used_by_curr_pic_{list}_flag")) == 1));
        }
    }
    rps
}

fn predict(base: &Rps, delta_rps: i64, flags: &[(bool, bool)]) -> Rps {
    let negative: Vec<usize> = (0..base.len()).filter(|&at| base[at].0 < 0).collect();
    let positive: Vec<usize> = (0..base.len()).filter(|&at| base[at].0 > 0).collect();
    let itself = base.len();
    let distance = |at: usize| if at == itself { delta_rps } else { base[at].0 + delta_rps };
    let before = positive.iter().rev().chain([&itself]).chain(&negative);
    let after = negative.iter().rev().chain([&itself]).chain(&positive);
    let taken = |at: &&usize| flags[**at].1;
    let entry = |at: &usize| (distance(*at), flags[*at].0);
    let before = before.filter(taken).map(entry).filter(|(distance, _)| *distance < 0);
    before.chain(after.filter(taken).map(entry).filter(|(distance, _)| *distance > 0)).collect()
}

#[derive(Debug, Default, Clone)]
struct TracedSps {
    log2_max_poc_lsb: u32,
    sets: Vec<Rps>,
    long_term: Vec<(i64, bool)>,
}

/// A picture's slice header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TracedPicture {
    pub(crate) nal_unit_type: i64,
    pub(crate) temporal_id: i64,
    pub(crate) no_output_of_prior_pics: bool,
    pub(crate) pic_output: bool,
    pub(crate) poc_lsb: i64,
    pub(crate) log2_max_poc_lsb: u32,
    pub(crate) short_term: Rps,
    /// Low bits, accumulated cycles of the high bits, used.
    pub(crate) long_term: Vec<(i64, Option<i64>, bool)>,
}

/// Keeps the current parameter sets along a trace.
#[derive(Default)]
pub(crate) struct TraceReader {
    sps: HashMap<i64, TracedSps>,
    sps_of_pps: HashMap<i64, i64>,
}

impl TraceReader {
    pub(crate) fn absorb(&mut self, unit: &TracedUnit) {
        if unit.get("nuh_layer_id") != Some(0) {
            return;
        }
        match unit.kind() {
            33 => {
                let id = unit.get("sps_seq_parameter_set_id").expect("an identifier");
                self.sps.insert(id, read_sps(unit));
            }
            34 => {
                let get = |name| unit.get(name).expect("an identifier");
                self.sps_of_pps.insert(get("pps_pic_parameter_set_id"), get("pps_seq_parameter_set_id"));
            }
            _ => {}
        }
    }

    pub(crate) fn slice(&self, unit: &TracedUnit) -> Option<TracedPicture> {
        if unit.get("dependent_slice_segment_flag") == Some(1) {
            return None;
        }
        let sps = &self.sps[&self.sps_of_pps[&unit.get("slice_pic_parameter_set_id").expect("an identifier")]];
        let mut traced = TracedPicture {
            nal_unit_type: unit.kind(),
            temporal_id: unit.get("nuh_temporal_id_plus1").expect("a layer") - 1,
            no_output_of_prior_pics: unit.get("no_output_of_prior_pics_flag") == Some(1),
            pic_output: unit.get("pic_output_flag") != Some(0),
            poc_lsb: unit.get("slice_pic_order_cnt_lsb").unwrap_or(0),
            log2_max_poc_lsb: sps.log2_max_poc_lsb,
            short_term: Rps::new(),
            long_term: Vec::new(),
        };
        let mut cursor = Cursor(&unit.elements);
        cursor.skip_to(&["short_term_ref_pic_set_sps_flag"]);
        if let Some(in_sps) = cursor.if_next("short_term_ref_pic_set_sps_flag") {
            traced.short_term = if in_sps == 1 {
                sps.sets[cursor.if_next("short_term_ref_pic_set_idx").unwrap_or(0) as usize].clone()
            } else {
                read_rps(&mut cursor, &sps.sets, true)
            };
            traced.long_term = read_long_term(&mut cursor, sps);
        }
        Some(traced)
    }
}

fn read_sps(unit: &TracedUnit) -> TracedSps {
    let log2_max_poc_lsb = unit.get("log2_max_pic_order_cnt_lsb_minus4").expect("a length") as u32 + 4;
    let mut cursor = Cursor(&unit.elements);
    cursor.skip_to(&["num_short_term_ref_pic_sets"]);
    let mut sps = TracedSps { log2_max_poc_lsb, ..TracedSps::default() };
    for _ in 0..cursor.take("num_short_term_ref_pic_sets") {
        let set = read_rps(&mut cursor, &sps.sets, false);
        sps.sets.push(set);
    }
    if cursor.take("long_term_ref_pics_present_flag") == 1 {
        for _ in 0..cursor.take("num_long_term_ref_pics_sps") {
            sps.long_term
                .push((cursor.take("lt_ref_pic_poc_lsb_sps"), cursor.take("used_by_curr_pic_lt_sps_flag") == 1));
        }
    }
    sps
}

fn read_long_term(cursor: &mut Cursor, sps: &TracedSps) -> Vec<(i64, Option<i64>, bool)> {
    let from_sps = cursor.if_next("num_long_term_sps").unwrap_or(0);
    let in_slice = cursor.if_next("num_long_term_pics").unwrap_or(0);
    let (mut entries, mut cycle) = (Vec::new(), 0);
    for index in 0..from_sps + in_slice {
        let (lsb, used) = if index < from_sps {
            sps.long_term[cursor.if_next("lt_idx_sps").unwrap_or(0) as usize]
        } else {
            (cursor.take("poc_lsb_lt"), cursor.take("used_by_curr_pic_lt_flag") == 1)
        };
        let has_cycle = cursor.take("delta_poc_msb_present_flag") == 1;
        let delta = if has_cycle { cursor.take("delta_poc_msb_cycle_lt") } else { 0 };
        cycle = if index == 0 || index == from_sps { delta } else { cycle + delta };
        entries.push((lsb, has_cycle.then_some(cycle), used));
    }
    entries
}
