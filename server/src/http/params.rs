//! Parameters of requests. They are parsed strictly, so that a misspelt parameter is an error and not ignored.

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
use crate::stills::StillSpec;
use bucket_streamer::OnDamage;
use bucket_streamer::pixels::Shape;
use bucket_streamer::still::StillFormat;

/// Parses the query of an address.
///
/// # Errors
/// `bad-parameter` with the reason.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let parsed = Query::<T>::try_from_uri(uri);
    parsed.map(|Query(query)| query).map_err(|rejection| Problem::bad_parameter(rejection.body_text()))
}

/// The name of a video: the part of the path after `prefix`, percent-decoded once.
pub(super) fn name(uri: &Uri, prefix: &str) -> Result<String, Problem> {
    let rest = uri.path().strip_prefix(prefix).unwrap_or_default();
    let decoded = percent_decode_str(rest).decode_utf8();
    decoded.map(|name| name.into_owned()).map_err(|_| Problem::bad_parameter("the video's name is not UTF-8"))
}

/// The way to fit a picture into width and height.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum FitParam {
    /// Scale to fit inside, without cropping.
    Contain,
    /// Scale to fill, and crop the rest.
    Cover,
    /// Stretch to fill.
    Fill,
}

/// The file format of a still.
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
        of_names.description(Some("The file format of a still.")).into()
    }
}

impl utoipa::ToSchema for FormatParam {}

/// The damage policy of a request, by default the server's, and the suffix of ETags under it. Under `error`, ETags
/// differ from those of responses that may be damaged, so that a client's cached damaged picture is never revalidated
/// for a request that refuses damage.
pub(super) fn damage_policy(config: &Config, on_damage: Option<OnDamage>) -> (OnDamage, &'static str) {
    let on_damage = on_damage.unwrap_or(config.on_damage);
    (on_damage, if on_damage == OnDamage::Error { "-sound" } else { "" })
}

/// The form of a still. The format comes from the address, or else from `Accept`.
pub(super) fn spec(
    config: &Config,
    format: Option<FormatParam>,
    (quality_param, shape): (Option<u32>, Shape),
    headers: &HeaderMap,
) -> Result<StillSpec, Problem> {
    let format = match format {
        Some(FormatParam(format)) => format,
        None => preferred_format(text(headers, &ACCEPT))?,
    };
    let quality = quality(config, quality_param)?;
    // Formats without a quality ignore it: requests with different qualities share one cached still.
    let quality = if format.has_quality() { quality } else { 0 };
    Ok(StillSpec { format, quality, shape })
}

/// The format that `Accept` prefers (RFC 9110, section 12.5.1); of equal weights the first of [`StillFormat::ALL`].
fn preferred_format(header: Option<&str>) -> Result<StillFormat, Problem> {
    let Some(header) = header else { return Ok(StillFormat::Jpeg) };
    let ranges: Vec<(Mime, f32)> = header.split(',').filter_map(media_range).collect();
    if ranges.is_empty() {
        return Ok(StillFormat::Jpeg);
    }
    let weight = |format: StillFormat| {
        let (kind, subtype) = format.media_type().split_once('/').unwrap_or_default();
        let fit = |range: &Mime| match (range.type_().as_str(), range.subtype().as_str()) {
            ("*", "*") => Some(0),
            (own, "*") if own == kind => Some(1),
            (own, other) if own == kind && other == subtype => Some(2),
            _ => None,
        };
        // The most specific media range determines the weight.
        let best = ranges.iter().filter_map(|(range, q)| Some((fit(range)?, *q)));
        best.max_by_key(|(specificity, _)| *specificity).map_or(0.0, |(_, q)| q)
    };
    // `max_by` takes the last of equals, hence `rev`.
    let best = StillFormat::ALL.into_iter().rev().map(|format| (weight(format), format)).filter(|(q, _)| *q > 0.0);
    let best = best.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.map(|(_, format)| format).ok_or_else(Problem::not_acceptable)
}

/// Parses a media range and its weight `q`, 1 by default.
fn media_range(text: &str) -> Option<(Mime, f32)> {
    let range: Mime = text.trim().parse().ok()?;
    let q = range.get_param("q").map_or(Some(1.0), |q| q.as_str().parse().ok());
    Some((range, q.filter(|q| (0.0..=1.0).contains(q))?))
}

#[cfg(test)]
mod tests {
    use super::{StillFormat, Uri, name, preferred_format};

    #[test]
    fn the_format_with_the_greatest_weight_is_chosen() {
        let of = |header: &str| preferred_format(Some(header)).ok();
        assert_eq!(preferred_format(None).ok(), Some(StillFormat::Jpeg));
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
