//! Which format and encoding a client wants (RFC 9110, sections 12.4.2, 12.5.1 and 12.5.3).

use super::Format;

/// The format for a value of the header `Accept`: the one that is wanted most, by the qualities; of several the one that
/// stands first, as the Go client does it.
///
/// Like every Prometheus client, it answers with text where nothing fits, rather than with 406.
pub fn format(accept: &str) -> Format {
    let mut wanted = (0.0, Format::Text);
    for (range, parameters, quality) in ranges(accept) {
        if let Some(format) = named(&range, &parameters)
            && quality > wanted.0
        {
            wanted = (quality, format);
        }
    }
    wanted.1
}

/// The format that a range asks for, if it is one of ours.
fn named(range: &str, parameters: &[String]) -> Option<Format> {
    let parameter = |name: &str| {
        let value = |p: &String| Some(p.strip_prefix(name)?.strip_prefix('=')?.trim_matches('"').to_owned());
        parameters.iter().find_map(value)
    };
    match range {
        "application/vnd.google.protobuf" => {
            let is_ours = parameter("proto").as_deref() == Some("io.prometheus.client.metricfamily")
                && parameter("encoding").as_deref() == Some("delimited");
            is_ours.then_some(Format::Protobuf)
        }
        // Version 0.0.1 was a draft that no client of today needs.
        "application/openmetrics-text" => {
            parameter("version").is_none_or(|version| version == "1.0.0").then_some(Format::OpenMetrics)
        }
        "text/plain" | "text/*" | "*/*" => Some(Format::Text),
        _ => None,
    }
}

/// Whether a value of the header `Accept-Encoding` takes gzip.
pub fn gzip(accept_encoding: &str) -> bool {
    let ranges = ranges(accept_encoding);
    let of = |name: &str| ranges.iter().find(|r| r.0 == name).map(|r| r.2);
    of("gzip").or(of("*")).is_some_and(|quality| quality > 0.0)
}

/// The comma-separated ranges in lower case, with their parameters and quality.
fn ranges(header: &str) -> Vec<(String, Vec<String>, f32)> {
    let range = |part: &str| {
        let mut parts = part.split(';').map(|p| p.trim().to_ascii_lowercase());
        let name = parts.next().filter(|name| !name.is_empty())?;
        let (quality, parameters): (Vec<_>, Vec<_>) = parts.partition(|p| p.starts_with("q="));
        let quality = quality.first().map_or(Some(1.0), |q| q[2..].parse().ok()).unwrap_or(0.0);
        Some((name, parameters, quality))
    };
    header.split(',').filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prometheus_sends() {
        let v2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let v3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let text_only = "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(format(v2), Format::OpenMetrics);
        assert_eq!(format(v3), Format::OpenMetrics);
        assert_eq!(format(text_only), Format::Text);
        // With native histograms or start timestamps switched on.
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        assert_eq!(format(&format!("{protobuf},{}", v2.replacen(",", ";q=0.8,", 1))), Format::Protobuf);
        let v3 = v3.replace("q=0.5", "q=0.45");
        assert_eq!(format(&format!("{protobuf};escaping=allow-utf-8;q=0.6,{v3}")), Format::Protobuf);
    }

    #[test]
    fn qualities_decide() {
        for (accept, expected) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text;q=0.1,text/plain;q=0.9", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text; version=\"1.0.0\"; q=0.9, */*;q=0.1", Format::OpenMetrics),
            ("application/openmetrics-text;version=2.0.0", Format::Text),
            ("application/openmetrics-text;q=high,text/plain;q=0.1", Format::Text),
            ("text/plain,application/openmetrics-text", Format::Text),
            ("application/openmetrics-text,text/plain", Format::OpenMetrics),
            (
                "application/vnd.google.protobuf; proto=\"io.prometheus.client.MetricFamily\"; encoding=\"delimited\"",
                Format::Protobuf,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.3,\
                 application/openmetrics-text;q=0.4,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            // Not what we have: another encoding, another message, or not said which.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text,text/plain;q=0.1",
                Format::Text,
            ),
            ("application/vnd.google.protobuf;proto=a.B;encoding=delimited,text/plain;q=0.1", Format::Text),
            ("application/vnd.google.protobuf", Format::Text),
        ] {
            assert_eq!(format(accept), expected, "{accept}");
        }
    }

    #[test]
    fn gzip_is_used_only_when_taken() {
        for (header, expected) in [
            ("", false),
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("*", true),
            ("*;q=0", false),
            ("gzip;q=0, *", false),
        ] {
            assert_eq!(gzip(header), expected, "{header}");
        }
    }
}
