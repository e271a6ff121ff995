//! Limits of a requested still: its sides and its quality, within the configuration.

use super::config::Config;
use super::problem::Problem;
use super::videos::OpenVideo;
use bucket_streamer::pixels::{Fit, Shape};

/// The shape of a still with these sides, each 1 to the configured limit.
///
/// # Errors
/// `bad-parameter` with the limit.
pub(super) fn shape(config: &Config, width: Option<u32>, height: Option<u32>, fit: Fit) -> Result<Shape, Problem> {
    let longest = config.longest_side;
    for (name, side) in [("width", width), ("height", height)] {
        if side.is_some_and(|side| side == 0 || side > longest) {
            return Err(Problem::bad_parameter(format!("{name} is 1 to {longest}")));
        }
    }
    Ok(Shape { width, height, fit })
}

/// Checks the side that follows from the requested one and the video's aspect ratio: it has the same limit.
///
/// # Errors
/// `bad-parameter` with the limit.
pub(super) fn check_other_side(config: &Config, video: &OpenVideo, shape: Shape) -> Result<(), Problem> {
    let (width, height) = video.video.track().parameters.size();
    let (width, height) = (width.max(1) as u64, height.max(1) as u64);
    // The rotation is not known here: the check holds for both orientations.
    let (long, short) = (width.max(height), width.min(height));
    let requested = match (shape.width, shape.height) {
        (Some(own), None) | (None, Some(own)) => u64::from(own),
        _ => return Ok(()),
    };
    let longest = u64::from(config.longest_side);
    if requested * long / short > longest && requested > short {
        return Err(Problem::bad_parameter(format!("the other side would have more than {longest} pixels")));
    }
    Ok(())
}

/// The quality, 1 to 100; by default the configured one.
///
/// # Errors
/// `bad-parameter` for any other number.
pub(super) fn quality(config: &Config, quality: Option<u32>) -> Result<u8, Problem> {
    let quality = quality.unwrap_or(config.jpeg_quality.into());
    let fits = u8::try_from(quality).ok().filter(|quality| (1..=100).contains(quality));
    fits.ok_or_else(|| Problem::bad_parameter("quality is 1 to 100"))
}
