//! The shipped configuration with time running sixty times as fast, and nothing else changed.

use std::time::Duration;

/// What stands before a duration that is a time to wait, to look back or to come round.
const PLACES: [&str; 5] = ["[", "offset ", "for: ", "interval: ", "_wait: "];

/// `text` with each of these durations a sixtieth: hours become minutes, and minutes seconds. A second is the least:
/// 15 seconds between scrapes and evaluations become 1.
///
/// Thresholds stay, as they are about executions and not about the rules: numbers of seconds and milliseconds in
/// expressions, and what annotations say of them. So do labels named after a window (`window="1h"`).
pub fn scaled(text: &str) -> String {
    let (mut result, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(next) = rest.chars().next() {
        let found = if PLACES.iter().any(|place| result.ends_with(place)) { duration(rest) } else { None };
        match found {
            Some((seconds, length)) => {
                result.push_str(&format!("{}s", (seconds / 60).max(1)));
                rest = &rest[length..];
            }
            None => {
                result.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    result
}

/// The duration at the start of `text`, in seconds, and its length.
fn duration(text: &str) -> Option<(u64, usize)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text.as_bytes()[digits] {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86400,
        _ => return None,
    };
    let ends = !text[digits + 1..].starts_with(|c: char| c.is_alphanumeric());
    ends.then_some((number * unit, digits + 1))
}

const SHIPPED: [(&str, &str); 4] = [
    ("prometheus.yml", include_str!("../../../../alerts/prometheus.yml")),
    ("rsolv-executions.rules.yml", super::stack::EXECUTIONS),
    ("rsolv-exporter.rules.yml", super::stack::EXPORTER),
    ("alertmanager.yml", super::stack::ALERTMANAGER),
];

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Words, each with the line before and after it.
fn words(text: &str) -> Vec<(&str, &str, &str)> {
    let of_line = |line| {
        let starts = str::match_indices(line, is_word).filter(|(at, _)| !line[..*at].ends_with(is_word));
        starts.map(move |(at, _)| {
            let end = line[at..].find(|c| !is_word(c)).map_or(line.len(), |length| at + length);
            (&line[..at], &line[at..end], &line[end..])
        })
    };
    text.lines().flat_map(of_line).collect()
}

#[test]
fn every_duration_is_a_sixtieth_and_nothing_else_changes() {
    let keys = ["for", "interval", "scrape_interval", "evaluation_interval"];
    let keys = [&keys[..], &["group_wait", "group_interval", "repeat_interval"]].concat();
    for (name, shipped) in SHIPPED {
        let scaled = scaled(shipped);
        assert_eq!(shipped.replace(is_word, ""), scaled.replace(is_word, ""), "{name}");
        let (before, after) = (words(shipped), words(&scaled));
        assert_eq!(before.len(), after.len(), "{name}");
        let mut changed = 0;
        for ((head, was, tail), (_, is, _)) in before.into_iter().zip(after) {
            let place = format!("{name}: {head}{was}{tail}, with {is}");
            let key = head.trim_start().trim_end_matches(": ");
            let number = was.starts_with(|c: char| c.is_ascii_digit());
            let range = number && (head.ends_with('[') && tail.starts_with(']') || head.ends_with(" offset "));
            // By another reader of durations than the one above.
            let duration = humantime::parse_duration(was).ok().filter(|_| was.ends_with(|c: char| c.is_alphabetic()));
            if keys.contains(&key) || range {
                let sixtieth = duration.unwrap() / 60;
                assert_eq!(humantime::parse_duration(is), Ok(sixtieth.max(Duration::from_secs(1))), "{place}");
                changed += 1;
            } else {
                assert_eq!(was, is, "{place}");
                let label = head.ends_with("window=\"") || key == "window";
                let comment = head.trim_start().starts_with('#');
                assert!(label || comment || duration.is_none(), "a duration that stays: {place}");
            }
        }
        assert!(changed >= 2, "{name}: {changed} durations");
    }
}
