//! Where traces go, by OpenTelemetry's own settings.
//!
//! Other programs read these, too, and a client that is traced itself hands its own down to whatever it starts. So what
//! can't be used here turns traces off and is told; it never keeps sluice from starting.

use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{address::ServerUrl, reader::Reader};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";

/// Whether spans are made, and where they go.
#[derive(Debug, Clone)]
pub enum TraceSettings {
    /// Nobody named an endpoint, or traces are switched off.
    Off,
    /// An endpoint is named and something can't be used: what, and what to do.
    Unusable(String),
    On(Box<TraceExport>),
}

/// Where spans go.
#[derive(Debug, Clone)]
pub struct TraceExport {
    pub url: ServerUrl,
    /// Sent along; their values are secrets.
    pub headers: HeaderMap,
    pub service_name: Option<String>,
    pub sampler: Sampler,
}

impl TraceSettings {
    pub(super) fn read(read: &Reader) -> Self {
        match TraceExport::read(read) {
            Ok(None) => Self::Off,
            Ok(Some(export)) => Self::On(Box::new(export)),
            Err(problem) => Self::Unusable(problem),
        }
    }
}

impl TraceExport {
    fn read(read: &Reader) -> Result<Option<Self>, String> {
        let lower = |name| read.optional(name).map(|text| text.trim().to_ascii_lowercase());
        let exporter = lower("OTEL_TRACES_EXPORTER");
        if lower("OTEL_SDK_DISABLED").as_deref() == Some("true") || exporter.as_deref() == Some("none") {
            return Ok(None);
        }
        let Some(url) = endpoint(read)? else { return Ok(None) };
        if exporter.is_some_and(|exporter| exporter != "otlp") {
            return Err("OTEL_TRACES_EXPORTER: must be otlp, or none".to_owned());
        }
        let protocol = "OTEL_EXPORTER_OTLP_PROTOCOL";
        if lower(protocol).is_some_and(|protocol| protocol != "http/protobuf") {
            return Err(format!(
                "{protocol}: only http/protobuf is spoken; set it so for sluice, and the endpoint to the collector's port for \
                 HTTP (usually 4318)"
            ));
        }
        let service_name = read.optional("OTEL_SERVICE_NAME");
        Ok(Some(Self { url: url.into(), headers: headers(read)?, service_name, sampler: sampler(read)? }))
    }
}

/// The endpoint for traces as it stands, else the one for all signals with the path of traces behind it.
fn endpoint(read: &Reader) -> Result<Option<Url>, String> {
    let (name, text) = match (read.optional(TRACES_ENDPOINT), read.optional(ENDPOINT)) {
        (Some(text), _) => (TRACES_ENDPOINT, text),
        (None, Some(text)) => (ENDPOINT, text),
        (None, None) => return Ok(None),
    };
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let mut url = url.ok_or_else(|| {
        format!("{name}: is not a URL starting with http:// or https://; for example http://localhost:4318")
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{name}: must name no user and no password; secrets go into {HEADERS}"));
    }
    if name == ENDPOINT {
        url.set_path(&format!("{}/v1/traces", url.path().trim_end_matches('/')));
    }
    Ok(Some(url))
}

/// `name=value`, several separated by commas, values percent-encoded where they must be.
fn headers(read: &Reader) -> Result<HeaderMap, String> {
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value))
    };
    let text = read.optional(HEADERS).unwrap_or_default();
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    pairs
        .map(header)
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{HEADERS}: must be name=value, several separated by commas"))
}

fn sampler(read: &Reader) -> Result<Sampler, String> {
    let ratio = || match read.optional(SAMPLER_ARG) {
        None => Ok(1.0),
        Some(text) => text
            .trim()
            .parse()
            .ok()
            .filter(|ratio| (0.0..=1.0).contains(ratio))
            .ok_or_else(|| format!("{SAMPLER_ARG}: must be a number from 0 to 1")),
    };
    let based = |root| Sampler::ParentBased(Box::new(root));
    match read.text(SAMPLER, "parentbased_always_on").trim().to_ascii_lowercase().as_str() {
        "always_on" => Ok(Sampler::AlwaysOn),
        "always_off" => Ok(Sampler::AlwaysOff),
        "traceidratio" => ratio().map(Sampler::TraceIdRatioBased),
        "parentbased_always_on" => Ok(based(Sampler::AlwaysOn)),
        "parentbased_always_off" => Ok(based(Sampler::AlwaysOff)),
        "parentbased_traceidratio" => ratio().map(Sampler::TraceIdRatioBased).map(based),
        _ => Err(format!(
            "{SAMPLER}: must be always_on, always_off or traceidratio, or one of these behind parentbased_"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> TraceSettings {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        TraceSettings::read(&Reader::new(pairs.collect()))
    }

    fn on(pairs: &[(&str, &str)]) -> TraceExport {
        match read(pairs) {
            TraceSettings::On(export) => *export,
            other => panic!("{other:?}"),
        }
    }

    const AT: (&str, &str) = (ENDPOINT, "https://otel.example:4318/base/");

    #[test]
    fn traces_are_off_until_an_endpoint_is_named_and_where_they_are_switched_off() {
        for pairs in [
            &[][..],
            &[(HEADERS, "a=b"), (SAMPLER, "always_on")],
            &[AT, ("OTEL_SDK_DISABLED", "true")],
            &[AT, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert!(matches!(read(pairs), TraceSettings::Off), "{pairs:?}");
        }
    }

    #[test]
    fn the_path_of_traces_is_put_behind_the_common_endpoint_and_not_behind_that_of_traces() {
        assert_eq!(on(&[AT]).url.as_str(), "https://otel.example:4318/base/v1/traces");
        let own = on(&[AT, (TRACES_ENDPOINT, "http://localhost:4318/in?k=v")]);
        assert_eq!(own.url.as_str(), "http://localhost:4318/in?k=v");
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let export = on(&[AT, (HEADERS, "X-Key=segredo%20um , authorization=Basic%20segredo==")]);
        assert_eq!(export.headers["x-key"], "segredo um");
        assert_eq!(export.headers["authorization"], "Basic segredo==");
        assert!(!format!("{export:?}").contains("segredo"), "{export:?}");
    }

    #[test]
    fn samplers_are_those_of_the_standard() {
        let sampler = |name, arg| format!("{:?}", on(&[AT, (SAMPLER, name), (SAMPLER_ARG, arg)]).sampler);
        assert_eq!(sampler("always_off", ""), "AlwaysOff");
        assert_eq!(sampler("parentbased_traceidratio", "0.25"), "ParentBased(TraceIdRatioBased(0.25))");
        assert_eq!(format!("{:?}", on(&[AT]).sampler), "ParentBased(AlwaysOn)");
    }

    #[test]
    fn what_can_not_be_used_turns_traces_off_and_is_told_by_its_name_without_its_value() {
        for (name, value) in [
            (ENDPOINT, "segredo:4317"),
            (TRACES_ENDPOINT, "http://ana:segredo@localhost:4318"),
            (HEADERS, "segredo"),
            (HEADERS, "a b=segredo"),
            (HEADERS, "a=segredo%0a"),
            (SAMPLER, "segredo"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_TRACES_EXPORTER", "console"),
        ] {
            let pairs: Vec<_> = [(name, value)].into_iter().chain((name != ENDPOINT).then_some(AT)).collect();
            match read(&pairs) {
                TraceSettings::Unusable(told) => {
                    assert!(told.starts_with(&format!("{name}: ")) && !told.contains("segredo"), "{told}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        for arg in ["2", "-1", "NaN", "half"] {
            let told = read(&[AT, (SAMPLER, "traceidratio"), (SAMPLER_ARG, arg)]);
            assert!(matches!(told, TraceSettings::Unusable(_)), "{arg}: {told:?}");
        }
    }
}
