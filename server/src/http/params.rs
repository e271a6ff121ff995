//! What addresses ask for: read strictly, so that a slip of the keyboard is an error and not another picture.

use axum::extract::Query;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, Uri};
use mime::Mime;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use super::text;
use crate::config::Config;
use crate::limits::quality;
use crate::problem::Problem;
use crate::stills::Spec;
use bucket_streamer::OnDamage;
use bucket_streamer::pixels::Shape;
use bucket_streamer::still::StillFormat;

/// The query of an address.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let parsed = Query::<T>::try_from_uri(uri);
    parsed.map(|Query(query)| query).map_err(|rejection| Problem::bad_parameter(rejection.body_text()))
}

/// What comes after `prefix` in a path, decoded once: the name of a video.
pub(super) fn name(uri: &Uri, prefix: &str) -> Result<String, Problem> {
    let rest = uri.path().strip_prefix(prefix).unwrap_or_default();
    let decoded = percent_decode_str(rest).decode_utf8();
    decoded.map(|name| name.into_owned()).map_err(|_| Problem::bad_parameter("the name of the video is not UTF-8"))
}

/// How a picture is fitted into width and height.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum FitParam {
    /// As large as fits inside, whole.
    Contain,
    /// Fill it, cut off what stands out.
    Cover,
    /// Fill it, stretched.
    Fill,
}

/// What a still is a file of.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct FormatParam(StillFormat);

impl TryFrom<String> for FormatParam {
    type Error = String;

    fn try_from(name: String) -> Result<FormatParam, String> {
        let known = || StillFormat::ALL.map(StillFormat::name).join(", ");
        StillFormat::of_name(&name)
            .map(FormatParam)
            .ok_or_else(|| format!("unknown format, expected one of {}", known()))
    }
}

impl utoipa::PartialSchema for FormatParam {
    fn schema() -> RefOr<Schema> {
        let names = StillFormat::ALL.map(StillFormat::name);
        let of_names = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
        of_names.description(Some("What a still is a file of.")).into()
    }
}

impl utoipa::ToSchema for FormatParam {}

/// What a request says of damaged pictures, or else the server, and the end of an ETag. An answer that no damage has touched
/// has a tag of its own where damage is refused: one that was given for any picture is not taken for it.
pub(super) fn damage(config: &Config, on_damage: Option<OnDamage>) -> (OnDamage, &'static str) {
    let on_damage = on_damage.unwrap_or(config.on_damage);
    (on_damage, if on_damage == OnDamage::Error { "-sound" } else { "" })
}

/// What a still is to be: what the address says, and where it says nothing of the format, what is accepted.
pub(super) fn spec(
    config: &Config,
    format: Option<FormatParam>,
    (quality_param, shape): (Option<u32>, Shape),
    headers: &HeaderMap,
) -> Result<Spec, Problem> {
    let format = match format {
        Some(FormatParam(format)) => format,
        None => accepted(text(headers, &ACCEPT))?,
    };
    let quality = quality(config, quality_param)?;
    // Without one it is the same still, however it is asked for.
    let quality = if format.has_quality() { quality } else { 0 };
    Ok(Spec { format, quality, shape })
}

/// The format that is liked best; of those that are liked the same, the first of `StillFormat::ALL`.
fn accepted(header: Option<&str>) -> Result<StillFormat, Problem> {
    let Some(header) = header else { return Ok(StillFormat::Jpeg) };
    let ranges: Vec<(Mime, f32)> = header.split(',').filter_map(range).collect();
    if ranges.is_empty() {
        return Ok(StillFormat::Jpeg);
    }
    let liked = |format: StillFormat| {
        let (kind, subtype) = format.media_type().split_once('/').unwrap_or_default();
        let fit = |range: &Mime| match (range.type_().as_str(), range.subtype().as_str()) {
            ("*", "*") => Some(0),
            (own, "*") if own == kind => Some(1),
            (own, other) if own == kind && other == subtype => Some(2),
            _ => None,
        };
        // The closest range counts.
        let best = ranges.iter().filter_map(|(range, q)| Some((fit(range)?, *q)));
        best.max_by_key(|(close, _)| *close).map_or(0.0, |(_, q)| q)
    };
    // The last of the best is taken.
    let best = StillFormat::ALL.into_iter().rev().map(|format| (liked(format), format)).filter(|(q, _)| *q > 0.0);
    let best = best.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.map(|(_, format)| format).ok_or_else(Problem::not_acceptable)
}

/// A media range and how much it is liked.
fn range(text: &str) -> Option<(Mime, f32)> {
    let range: Mime = text.trim().parse().ok()?;
    let q = range.get_param("q").map_or(Some(1.0), |q| q.as_str().parse().ok());
    Some((range, q.filter(|q| (0.0..=1.0).contains(q))?))
}

#[cfg(test)]
mod tests {
    use super::{StillFormat, Uri, accepted, name};

    #[test]
    fn the_format_that_is_liked_best() {
        let of = |header: &str| accepted(Some(header)).ok();
        assert_eq!(accepted(None).ok(), Some(StillFormat::Jpeg));
        assert_eq!(of("*/*"), Some(StillFormat::Jpeg));
        assert_eq!(of("image/avif,image/webp,image/apng,image/*,*/*;q=0.8"), Some(StillFormat::Jpeg));
        assert_eq!(of("image/webp"), Some(StillFormat::Webp));
        assert_eq!(of("image/jpeg;q=0.5, image/png"), Some(StillFormat::Png));
        assert_eq!(of("image/*, image/jpeg;q=0"), Some(StillFormat::Png));
        assert_eq!(of("image/*;q=0.1, image/webp;q=0.9"), Some(StillFormat::Webp));
        assert_eq!(of("text/html"), None);
        assert_eq!(of("image/jpeg;q=0"), None);
        assert_eq!(of(";;;,"), Some(StillFormat::Jpeg));
    }

    #[test]
    fn names_are_decoded_once() {
        let of = |path: &str| name(&path.parse::<Uri>().unwrap(), "/frame/").ok();
        assert_eq!(of("/frame/a%20b/c.mp4").as_deref(), Some("a b/c.mp4"));
        assert_eq!(of("/frame/a%252e%252e/c").as_deref(), Some("a%2e%2e/c"));
        assert_eq!(of("/frame/%ff"), None);
    }
}
