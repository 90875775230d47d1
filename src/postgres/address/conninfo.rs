//! Takes a URL or a list of `key=value` apart, as libpq does (PostgreSQL documentation, 34.1.1). No error quotes what it
//! is about: that can be a part of the password.

use percent_encoding::percent_decode_str;

use super::invalid::InvalidAddress;
use super::parameters::{self, Parameter};

/// Parameters in the order in which they stand; of two for the same parameter the later one counts.
pub type Pairs = Vec<(&'static Parameter, String)>;

const NEITHER: &str = "is no PostgreSQL URL (postgres://USER@HOST:PORT/DATABASE) and no list of key=value";
const AT: &str = "has an @ where none can be: in a password, @ is written %40 and / %2F";
const PERCENT: &str = "has a % that no two hexadecimal digits follow: in a password, % is written %25";

/// The parameters that a URL (`postgres://`, `postgresql://` or Ecto's `ecto://`) or libpq's `key=value` pairs say.
pub fn split(text: &str) -> Result<Pairs, InvalidAddress> {
    let text = text.trim();
    let rest = ["postgresql://", "postgres://", "ecto://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    rest.map_or_else(|| split_pairs(text), split_url)
}

fn split_url(text: &str) -> Result<Pairs, InvalidAddress> {
    let mut pairs = Pairs::new();
    // As in libpq, the first @ before any / ends the user and the password, which can hold a ?.
    let (login, rest) = match text.find(['@', '/']) {
        Some(at) if text[at..].starts_with('@') => (&text[..at], &text[at + 1..]),
        _ => ("", text),
    };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
    if place.contains('@') {
        return Err(AT.into());
    }
    let (hosts, ports): (Vec<&str>, Vec<&str>) =
        hosts.split(',').map(split_host).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let ports = if ports.iter().all(|port| port.is_empty()) { String::new() } else { ports.join(",") };
    for (name, value) in
        [("user", user), ("password", password), ("host", &hosts.join(",")), ("port", &ports), ("dbname", database)]
    {
        if !value.is_empty() {
            add(&mut pairs, name, decode(value)?)?;
        }
    }
    for (i, pair) in query.split('&').enumerate().filter(|(_, pair)| !pair.is_empty()) {
        let wrong = |what: &str| InvalidAddress(format!("parameter {} {what}", i + 1));
        let (name, value) = pair.split_once('=').ok_or_else(|| wrong("has no value (KEY=VALUE)"))?;
        if value.contains('=') {
            return Err(wrong("has a second =: in a value, = is written %3D"));
        }
        add(&mut pairs, &decode(name)?, decode(value)?).map_err(|e| wrong(&e.0))?;
    }
    Ok(pairs)
}

/// A host without the brackets of IPv6, and its port, if it has one.
fn split_host(text: &str) -> Result<(&str, &str), InvalidAddress> {
    let Some(rest) = text.strip_prefix('[') else { return Ok(text.split_once(':').unwrap_or((text, ""))) };
    let (host, rest) = rest.split_once(']').ok_or("has a [ that no ] follows")?;
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, port)),
        None if rest.is_empty() => Ok((host, "")),
        None => Err("has something other than a port after the ] of an IPv6 address".into()),
    }
}

fn add(pairs: &mut Pairs, name: &str, value: String) -> Result<(), InvalidAddress> {
    let parameter = parameters::find(name).map_err(|unknown| InvalidAddress(unknown.to_string()))?;
    pairs.push((parameter, value));
    Ok(())
}

fn decode(text: &str) -> Result<String, InvalidAddress> {
    // The crate leaves a % alone that begins no escape; libpq refuses it, as well as a byte of zero.
    let is_escape =
        |after: &str| after.get(..2).is_some_and(|hex| hex != "00" && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if !text.split('%').skip(1).all(is_escape) {
        return Err(PERCENT.into());
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| "is not UTF-8 once it is decoded".into())
}

/// `key=value key='quo\'ted'`.
fn split_pairs(text: &str) -> Result<Pairs, InvalidAddress> {
    let mut pairs = Pairs::new();
    let mut chars = text.chars().peekable();
    while chars.peek().is_some() {
        let name: String = std::iter::from_fn(|| chars.next_if(|c| *c != '=' && !c.is_whitespace())).collect();
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if name.is_empty() || chars.next() != Some('=') {
            return Err(NEITHER.into());
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.extend(chars.next()),
                Some('\'') if quoted => break,
                None if quoted => return Err("has a ' that no other ' follows".into()),
                None => break,
                Some(c) if c.is_whitespace() && !quoted => break,
                Some(c) => value.push(c),
            }
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let number = pairs.len() + 1;
        add(&mut pairs, &name, value).map_err(|e| InvalidAddress(format!("parameter {number} {e}")))?;
    }
    if pairs.is_empty() { Err(NEITHER.into()) } else { Ok(pairs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<String, InvalidAddress> {
        let pairs = split(text)?;
        Ok(pairs.iter().map(|(p, value)| format!("{}={value}", p.name)).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn urls_are_taken_apart_as_libpq_does() {
        for (url, expected) in [
            ("postgres://", ""),
            ("postgresql:///d", "dbname=d"),
            ("postgres://h", "host=h"),
            ("postgres://u@h:1/d", "user=u host=h port=1 dbname=d"),
            ("postgres://u:p%40s?s@h/d", "user=u password=p@s?s host=h dbname=d"),
            ("postgres://u:a:b@h", "user=u password=a:b host=h"),
            ("postgres://a:1,[::1]:2,c/d", "host=a,::1,c port=1,2, dbname=d"),
            ("postgres://a,b/d", "host=a,b dbname=d"),
            ("postgres://u@%2Frun%2Fpostgresql/d", "user=u host=/run/postgresql dbname=d"),
            ("postgres://[fe80::1]/d?port=5&host=x", "host=fe80::1 dbname=d port=5 host=x"),
            (
                "ecto://u@h/d?sslrootcert=&application_name=a@b",
                "user=u host=h dbname=d sslrootcert= application_name=a@b",
            ),
        ] {
            assert_eq!(said(url), Ok(expected.to_owned()), "{url}");
        }
    }

    #[test]
    fn pairs_with_quotes() {
        let text = r"host=h  user = 'it\'s me' password='a b\\c' dbname=";
        assert_eq!(said(text).unwrap(), r"host=h user=it's me password=a b\c dbname=");
    }

    #[test]
    fn what_is_wrong_is_answered_with_the_remedy() {
        for (text, expected) in [
            ("postgres://u:p@ss@h/d", AT),
            ("postgres://u:p/ss@h/d", AT),
            ("postgres://u:100%@h/d", PERCENT),
            ("postgres://u:100%zz@h/d", PERCENT),
            ("postgres://u:%00@h/d", PERCENT),
            ("postgres://[::1/d", "has a [ that no ] follows"),
            ("postgres://h/d?sslmode", "parameter 1 has no value (KEY=VALUE)"),
            ("postgres://h/d?options=-cx=y", "parameter 1 has a second =: in a value, = is written %3D"),
            (
                "postgres://h/d?port=1&slmode=x",
                "parameter 2 is no parameter of a PostgreSQL URL; did you mean sslmode?",
            ),
            ("host=h slmode=x", "parameter 2 is no parameter of a PostgreSQL URL; did you mean sslmode?"),
            ("host='h", "has a ' that no other ' follows"),
            ("rsolv", NEITHER),
            ("", NEITHER),
        ] {
            assert_eq!(said(text), Err(expected.into()), "{text}");
        }
    }
}
