//! A PromQL selector such as `name{label="value",other=~"re.*"}`: text in, text out.

use std::fmt;
use std::str::FromStr;

/// How a matcher compares. Regular expressions match the whole value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Matches,
    /// `!~`
    MatchesNot,
}

impl Operator {
    /// Every operator, longer ones before their beginnings.
    const ALL: [(&str, Self); 4] =
        [("=~", Self::Matches), ("!~", Self::MatchesNot), ("!=", Self::NotEqual), ("=", Self::Equal)];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Matches => "=~",
            Self::MatchesNot => "!~",
        }
    }
}

/// One condition on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// The label.
    pub label: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub value: String,
}

/// A metric name and conditions on its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The metric, as its samples are called.
    pub name: String,
    /// The conditions; all must hold.
    pub matchers: Vec<Matcher>,
}

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}, at character {at} of {text}")]
pub struct SelectorError {
    message: String,
    at: usize,
    text: String,
}

impl Matcher {
    /// True if the value is a regular expression.
    pub fn is_regular(&self) -> bool {
        matches!(self.operator, Operator::Matches | Operator::MatchesNot)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}\"", self.label, self.operator.as_str())?;
        for c in self.value.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                // The text also stands in comments of SQL, which a line end would close, and on terminals.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (i, matcher) in self.matchers.iter().enumerate() {
            write!(f, "{}{matcher}", if i == 0 { "{" } else { "," })?;
        }
        f.write_str(if self.matchers.is_empty() { "" } else { "}" })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { text, rest: text };
        parser.blank();
        let mut name = parser.word(|c| c == ':').to_owned();
        let mut matchers = Vec::new();
        parser.blank();
        if parser.take("{") {
            loop {
                parser.blank();
                if parser.take("}") {
                    break;
                }
                matchers.push(parser.matcher()?);
                parser.blank();
                if !parser.take(",") && !parser.rest.starts_with('}') {
                    return parser.fail("expected ',' or '}'");
                }
            }
            parser.blank();
        }
        if !parser.rest.is_empty() {
            return parser
                .fail("expected the end: this takes a selector such as name{label=\"value\"}, not an expression");
        }
        if name.is_empty()
            && let Some(i) = matchers.iter().position(|m| m.label == "__name__" && m.operator == Operator::Equal)
        {
            name = matchers.remove(i).value;
        }
        if name.is_empty() {
            parser.rest = parser.text;
            return parser.fail("expected the name of a metric");
        }
        Ok(Self { name, matchers })
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn fail<T>(&self, message: &str) -> Result<T, SelectorError> {
        let at = self.text[..self.text.len() - self.rest.len()].chars().count() + 1;
        Err(SelectorError { message: message.to_owned(), at, text: self.text.to_owned() })
    }

    fn blank(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Letters, digits, `_` and what `also` allows, not starting with a digit; empty when there is none.
    fn word(&mut self, also: fn(char) -> bool) -> &'a str {
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || also(c);
        if !self.rest.starts_with(letter) {
            return "";
        }
        let end = self.rest.find(|c: char| !letter(c) && !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn matcher(&mut self) -> Result<Matcher, SelectorError> {
        let label = self.word(|_| false).to_owned();
        if label.is_empty() {
            return self.fail("expected the name of a label");
        }
        self.blank();
        let Some((_, operator)) = Operator::ALL.into_iter().find(|(token, _)| self.take(token)) else {
            return self.fail("expected one of = != =~ !~");
        };
        self.blank();
        Ok(Matcher { label, operator, value: self.string()? })
    }

    fn string(&mut self) -> Result<String, SelectorError> {
        let Some(quote) = ['"', '\'', '`'].into_iter().find(|q| self.rest.starts_with(*q)) else {
            return self.fail("expected a value in quotes");
        };
        let opening = self.rest;
        self.rest = &self.rest[1..];
        let mut bytes = Vec::new();
        loop {
            let Some(c) = self.rest.chars().next() else {
                self.rest = opening;
                return self.fail("expected an end of the quotes that begin here");
            };
            if c == '\\' && quote != '`' {
                self.escape(&mut bytes)?;
                continue;
            }
            self.rest = &self.rest[c.len_utf8()..];
            if c == quote {
                break;
            }
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        match String::from_utf8(bytes) {
            Ok(value) if !value.contains('\0') => Ok(value),
            Ok(_) => self.fail("PostgreSQL has no text with a NUL character, so nothing can match"),
            Err(_) => self.fail("the escapes in this value make no UTF-8"),
        }
    }

    /// An escape as in Go: one character, or a number of octal or hexadecimal digits.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), SelectorError> {
        let code = self.rest.chars().nth(1).unwrap_or('\0');
        let one = |c: char| ('\0'..='\x7f').contains(&c).then_some(c as u8);
        let (skip, digits, radix) = match code {
            'x' => (2, 2, 16),
            'u' => (2, 4, 16),
            'U' => (2, 8, 16),
            '0'..='7' => (1, 3, 8),
            _ => {
                let plain = match code {
                    'a' => Some(7),
                    'b' => Some(8),
                    'f' => Some(12),
                    'n' => Some(b'\n'),
                    'r' => Some(b'\r'),
                    't' => Some(b'\t'),
                    'v' => Some(11),
                    '\\' | '\'' | '"' => one(code),
                    _ => None,
                };
                let Some(byte) = plain else { return self.fail("unknown escape; a backslash itself is \\\\") };
                bytes.push(byte);
                self.rest = &self.rest[2..];
                return Ok(());
            }
        };
        let text = self.rest.get(skip..skip + digits).filter(|t| t.chars().all(|c| c.is_digit(radix)));
        let number = text.and_then(|t| u32::from_str_radix(t, radix).ok());
        match (number, code) {
            (Some(number @ 0..=255), 'x' | '0'..='7') => bytes.push(number as u8),
            (Some(number), 'u' | 'U') if char::from_u32(number).is_some() => {
                bytes.extend(char::from_u32(number).into_iter().flat_map(|c| c.to_string().into_bytes()));
            }
            _ => return self.fail("this escape is no character"),
        }
        self.rest = &self.rest[skip + digits..];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matchers(text: &str) -> Vec<(String, &'static str, String)> {
        let selector: Selector = text.parse().unwrap();
        selector.matchers.into_iter().map(|m| (m.label, m.operator.as_str(), m.value)).collect()
    }

    #[test]
    fn prometheus_own_spellings_are_understood() {
        let own = |l: &str, o, v: &str| (l.to_owned(), o, v.to_owned());
        assert_eq!("up".parse::<Selector>().unwrap().name, "up");
        assert_eq!("{__name__=\"up\"}".parse::<Selector>().unwrap().name, "up");
        assert_eq!(matchers(" a:b {} "), []);
        assert_eq!(matchers("x{ a = 'it\\'s' ,}"), [own("a", "=", "it's")]);
        assert_eq!(
            matchers("x{a!=`\\d`,b=~\"\\\\d\",c!~\"\"}"),
            [own("a", "!=", "\\d"), own("b", "=~", "\\d"), own("c", "!~", "")]
        );
        assert_eq!(matchers(r#"x{a="\x41\101\u00e9\U0001F600\xc3\xa9\t"}"#), [own("a", "=", "AAé😀é\t")]);
    }

    #[test]
    fn what_is_no_selector_is_refused_with_its_place() {
        let all = [
            "",
            "{a=\"1\"}",
            "x{a}",
            "x{a=1}",
            "x{a=\"1}",
            "x{a=\"1\" b=\"2\"}",
            "x{\"a\"=\"1\"}",
            "x[5m]",
            "rate(x[5m])",
            "x{a=\"\\d\"}",
            "x{a=\"\\xff\"}",
            "x{a=\"\\xé\"}",
            "x{a=\"\\000\"}",
            "x{",
        ];
        let errors: String = all.iter().map(|t| format!("{}\n", t.parse::<Selector>().unwrap_err())).collect();
        insta::assert_snapshot!(errors);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(
            name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,8}",
            labels in prop::collection::vec(("[a-zA-Z_][a-zA-Z0-9_]{0,4}", 0..4_usize, "[^\0]{0,12}"), 0..4),
        ) {
            let matcher = |(label, i, value): (String, usize, String)| Matcher { label, operator: Operator::ALL[i].1, value };
            let selector = Selector { name, matchers: labels.into_iter().map(matcher).collect() };
            let text = selector.to_string();
            prop_assert!(!text.contains(char::is_control), "{text:?}");
            prop_assert_eq!(text.parse::<Selector>(), Ok(selector));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[a{}=~!\"'`\\\\xuU0-9, é]{0,20}") {
            let _ = text.parse::<Selector>();
        }
    }
}
