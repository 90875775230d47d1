//! Which format and encoding a client wants (RFC 9110, sections 12.4.2, 12.5.1 and 12.5.3).

use super::Format;

/// The format for a value of the header `Accept`: OpenMetrics when it is wanted more than text, else text.
///
/// Like every Prometheus client, it answers with text where nothing fits, rather than with 406.
pub fn format(accept: &str) -> Format {
    let mut text = 0.0_f32;
    let mut openmetrics = 0.0_f32;
    for (range, parameters, quality) in ranges(accept) {
        match range.as_str() {
            "application/openmetrics-text" => {
                // Version 0.0.1 was a draft that no client of today needs.
                let version = parameters.iter().find_map(|p| p.strip_prefix("version="));
                if version.is_none_or(|v| v.trim_matches('"') == "1.0.0") {
                    openmetrics = openmetrics.max(quality);
                }
            }
            "text/plain" | "text/*" | "*/*" => text = text.max(quality),
            _ => {}
        }
    }
    if openmetrics > 0.0 && openmetrics >= text { Format::OpenMetrics } else { Format::Text }
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
