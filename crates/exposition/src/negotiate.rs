//! Which format and which compression a client gets.
//!
//! Both are pure functions of a header, which may hold anything: what cannot be read counts as not said, and
//! only so many entries are looked at. A header that came in several lines is one text, joined by commas.
//!
//! The rules are those of RFC 9110 (12.4.2, 12.5.1, 12.5.3) and, where that leaves a choice, of the Go client:
//! the highest quality wins, of equal ones the more exact entry, of equally exact ones the first. `text/*` and
//! `*/*` ask for text and never for another format.
//!
//! What a newcomer would get wrong: Prometheus names OpenMetrics first, and still gets text. In OpenMetrics
//! series have other names (see [`crate::openmetrics`]), so it is sent only to those who accept nothing else,
//! or where the operator prefers it.

use std::cmp::Reverse;

/// The form of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics text 1.0.
    OpenMetrics,
    /// Delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
}

/// What is done with names outside `[a-zA-Z0-9_:]`. We have none, and under these schemes all other names stay
/// as they are: the answer repeats what was asked. The scheme `dots` is not among them, since it would double
/// each underscore of each name; who asks for it gets `underscores`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Escaping {
    /// Other characters turn into underscores. This is also meant where nothing is asked.
    #[default]
    Underscores,
    /// Names stay as they are.
    AllowUtf8,
    /// Other characters turn into their code points.
    Values,
}

/// The compression of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// None.
    Identity,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Format {
    /// The value of `Content-Type`.
    pub const fn content_type(self, escaping: Escaping) -> &'static str {
        macro_rules! with_escaping {
            ($format:literal) => {
                match escaping {
                    Escaping::Underscores => concat!($format, "; escaping=underscores"),
                    Escaping::AllowUtf8 => concat!($format, "; escaping=allow-utf-8"),
                    Escaping::Values => concat!($format, "; escaping=values"),
                }
            };
        }
        match self {
            Self::Text => with_escaping!("text/plain; version=0.0.4; charset=utf-8"),
            Self::OpenMetrics => with_escaping!("application/openmetrics-text; version=1.0.0; charset=utf-8"),
            Self::Protobuf => with_escaping!(
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            ),
        }
    }
}

impl Encoding {
    /// The value of `Content-Encoding`; none for what is not encoded.
    pub const fn header(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// The format for a client that sent this `Accept`, and the escaping that it asked for. Text is also for
/// clients that sent none, or that accept nothing that we have.
///
/// `prefer_openmetrics` lets OpenMetrics compete with the others where it is named; without, it is sent to those
/// who accept nothing else.
pub fn format(accept: Option<&str>, prefer_openmetrics: bool) -> (Format, Escaping) {
    let (mut text, mut openmetrics, mut protobuf) = (None, None, None);
    let mut escaping = None;
    for (position, entry) in entries(accept).enumerate() {
        let asked = entry.parameter("escaping").and_then(Escaping::named);
        escaping = escaping.or(asked);
        let Some((format, exactness)) = entry.media_range() else { continue };
        let claim = match format {
            Format::Text => &mut text,
            Format::OpenMetrics => &mut openmetrics,
            Format::Protobuf => &mut protobuf,
        };
        let quality = entry.quality();
        *claim =
            (*claim).max(Some(Claim { exactness, quality, position: Reverse(position), escaping: asked }));
    }
    let accepted = |claim: &(Claim, Format)| claim.0.quality > 0;
    let claims = [text.zip(Some(Format::Text)), protobuf.zip(Some(Format::Protobuf))];
    let openmetrics = openmetrics.zip(Some(Format::OpenMetrics)).filter(accepted);
    let competing = claims.into_iter().flatten().chain(openmetrics.filter(|_| prefer_openmetrics));
    let best = competing.filter(accepted).max_by_key(|(claim, format)| {
        (claim.quality, *format == Format::OpenMetrics, claim.exactness, claim.position)
    });
    match best.or(openmetrics) {
        Some((claim, format)) => (format, claim.escaping.or(escaping).unwrap_or_default()),
        None => (Format::Text, escaping.unwrap_or_default()),
    }
}

/// The compression for a client that sent this `Accept-Encoding`; of equal quality, the first of identity, gzip
/// and zstd, as the Go client offers them. None at all for clients that sent none or refuse all three.
pub fn encoding(accept_encoding: Option<&str>) -> Encoding {
    let quality = |coding: &str| {
        let named = |name| entries(accept_encoding).find(|entry| entry.value.eq_ignore_ascii_case(name));
        named(coding).or_else(|| named("*")).map_or(0, |entry| entry.quality())
    };
    let offers = [(Encoding::Zstd, "zstd"), (Encoding::Gzip, "gzip"), (Encoding::Identity, "identity")];
    let rated = offers.map(|(encoding, name)| (quality(name), encoding));
    // Of equal maxima the last one is taken.
    let best = rated.into_iter().filter(|(quality, _)| *quality > 0).max_by_key(|(quality, _)| *quality);
    best.map_or(Encoding::Identity, |(_, encoding)| encoding)
}

/// What a header says about one format: the most exact entry counts, of equally exact ones (two versions, say)
/// the one of the highest quality.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    exactness: Exactness,
    quality: u16,
    position: Reverse<usize>,
    escaping: Option<Escaping>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Exactness {
    /// `*/*`
    Anything,
    /// `text/*`
    Type,
    /// `text/plain`
    Named,
}

impl Escaping {
    fn named(name: &str) -> Option<Self> {
        match name {
            "underscores" => Some(Self::Underscores),
            "allow-utf-8" => Some(Self::AllowUtf8),
            "values" => Some(Self::Values),
            _ => None,
        }
    }
}

/// Entries of a header beyond these are not looked at. Browsers send about ten.
const MOST_ENTRIES: usize = 64;

/// Parameters of an entry beyond these are not looked at.
const MOST_PARAMETERS: usize = 16;

/// The entries of a header: `gzip`, `text/plain;version=0.0.4;q=0.3`.
fn entries(header: Option<&str>) -> impl Iterator<Item = Entry<'_>> {
    let all = header.unwrap_or_default().split(',').map(|entry| {
        let (value, parameters) = entry.split_once(';').unwrap_or((entry, ""));
        Entry { value: value.trim(), parameters }
    });
    all.filter(|entry| !entry.value.is_empty()).take(MOST_ENTRIES)
}

struct Entry<'a> {
    value: &'a str,
    parameters: &'a str,
}

impl<'a> Entry<'a> {
    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.split(';').take(MOST_PARAMETERS).find_map(|parameter| {
            let (key, value) = parameter.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
        })
    }

    /// How much it is wanted, from 0 (not at all) to 1000.
    fn quality(&self) -> u16 {
        let stated = self.parameter("q").and_then(|q| q.parse::<f32>().ok());
        // NaN is in no range either.
        stated.filter(|q| (0.0..=1.0).contains(q)).map_or(1000, |q| (q * 1000.0).round() as u16)
    }

    /// The format that is asked for, if it is one of ours, and how exactly.
    fn media_range(&self) -> Option<(Format, Exactness)> {
        let is = |name: &str| self.value.eq_ignore_ascii_case(name);
        let version = self.parameter("version");
        if is("text/plain") {
            matches!(version, None | Some("" | "0.0.4")).then_some((Format::Text, Exactness::Named))
        } else if is("text/*") {
            Some((Format::Text, Exactness::Type))
        } else if is("*/*") {
            Some((Format::Text, Exactness::Anything))
        } else if is("application/openmetrics-text") {
            let known = matches!(version, None | Some("" | "0.0.1" | "1.0.0"));
            known.then_some((Format::OpenMetrics, Exactness::Named))
        } else if is("application/vnd.google.protobuf") {
            let ours = self.parameter("proto") == Some("io.prometheus.client.MetricFamily")
                && self.parameter("encoding") == Some("delimited");
            ours.then_some((Format::Protobuf, Exactness::Named))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOBUF: &str =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

    fn check(accept: &str, prefer_openmetrics: bool, expected: Format) {
        let (chosen, _) = format(Some(accept), prefer_openmetrics);
        assert_eq!(chosen, expected, "{accept:?}, prefer OpenMetrics: {prefer_openmetrics}");
    }

    #[test]
    fn who_accepts_text_gets_text() {
        assert_eq!(format(None, false).0, Format::Text);
        assert_eq!(format(None, true).0, Format::Text);
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/plain;version=0.0.4",
            "TEXT/PLAIN; Version=0.0.4; Q=0.1",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            // Prometheus 2.26, 2.50 and 3.
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/openmetrics-text, */*;q=0.01",
            "application/openmetrics-text;q=0, text/plain;q=0.1",
            // Nothing that we have.
            "application/json",
            "application/*",
            "text/plain;version=1.0.0",
            "application/openmetrics-text;version=2.0.0",
            "application/vnd.google.protobuf",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
            "application/vnd.google.protobuf;proto=other.Message;encoding=delimited",
            "text/plain;q=0",
        ] {
            check(accept, false, Format::Text);
        }
    }

    #[test]
    fn openmetrics_is_for_those_who_accept_nothing_else() {
        for accept in [
            "application/openmetrics-text",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "application/openmetrics-text;version=0.0.1;q=0.1",
            "application/openmetrics-text, text/plain;q=0",
            "application/openmetrics-text;q=0.2, text/plain;q=0, */*",
            "application/openmetrics-text, text/html",
        ] {
            check(accept, false, Format::OpenMetrics);
            check(accept, true, Format::OpenMetrics);
        }
    }

    #[test]
    fn preferred_openmetrics_competes_where_it_is_named() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        check(prometheus, true, Format::OpenMetrics);
        check("text/plain, application/openmetrics-text", true, Format::OpenMetrics);
        check("text/plain, application/openmetrics-text;q=0.9", true, Format::Text);
        check(&format!("{PROTOBUF};q=0.9,application/openmetrics-text;q=0.8"), true, Format::Protobuf);
        check("*/*", true, Format::Text);
    }

    #[test]
    fn protobuf_is_for_those_who_like_it_best() {
        // Prometheus with native histograms.
        let native = format!(
            "{PROTOBUF};q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,\
             application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
        for (accept, expected) in [
            (PROTOBUF, Format::Protobuf),
            (&native, Format::Protobuf),
            (&format!("{PROTOBUF};q=0.2,text/plain;q=0.3"), Format::Text),
            (&format!("{PROTOBUF};q=0,*/*"), Format::Text),
            (&format!("{PROTOBUF};q=0"), Format::Text),
            (&format!("{PROTOBUF},text/plain"), Format::Protobuf),
            (&format!("text/plain,{PROTOBUF}"), Format::Text),
            (&format!("*/*,{PROTOBUF}"), Format::Protobuf),
            (&format!("application/openmetrics-text,{PROTOBUF};q=0.1"), Format::Protobuf),
            (&PROTOBUF.replace("delimited", "\"delimited\""), Format::Protobuf),
        ] {
            check(accept, false, expected);
        }
    }

    #[test]
    fn the_escaping_that_was_asked_for_is_repeated() {
        for (accept, expected) in [
            ("*/*", Escaping::Underscores),
            ("text/plain;version=0.0.4;escaping=allow-utf-8", Escaping::AllowUtf8),
            ("text/plain; escaping=values; q=0.5", Escaping::Values),
            ("text/plain; escaping=dots", Escaping::Underscores),
            ("text/plain; escaping=nonsense", Escaping::Underscores),
            // Asked of a format that we do not send.
            (
                "application/openmetrics-text;escaping=allow-utf-8,text/plain;version=0.0.4",
                Escaping::AllowUtf8,
            ),
            (
                "application/openmetrics-text;escaping=allow-utf-8,text/plain;escaping=values",
                Escaping::Values,
            ),
        ] {
            assert_eq!(format(Some(accept), false), (Format::Text, expected), "{accept:?}");
        }
    }

    #[test]
    fn the_content_type_says_all_of_it() {
        for (format, escaping, expected) in [
            (
                Format::Text,
                Escaping::Underscores,
                "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            ),
            (
                Format::OpenMetrics,
                Escaping::AllowUtf8,
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            ),
            (
                Format::Protobuf,
                Escaping::Values,
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; \
                 escaping=values",
            ),
        ] {
            assert_eq!(format.content_type(escaping), expected);
        }
    }

    #[test]
    fn compression_goes_by_quality_and_then_by_our_order() {
        for (header, expected) in [
            ("", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("GZip", Encoding::Gzip),
            ("zstd", Encoding::Zstd),
            ("gzip, deflate, br, zstd", Encoding::Gzip),
            ("zstd, gzip;q=0.9", Encoding::Zstd),
            ("gzip;q=0.5, identity;q=0.4", Encoding::Gzip),
            ("identity, gzip", Encoding::Identity),
            ("*", Encoding::Identity),
            ("gzip;q=0", Encoding::Identity),
            ("gzip;q=0, zstd;q=0.1", Encoding::Zstd),
            ("identity;q=0, *", Encoding::Gzip),
            ("gzip;q=0.5, *;q=0.8, identity;q=0", Encoding::Zstd),
            ("*;q=0", Encoding::Identity),
            ("gzip;q=1.000", Encoding::Gzip),
            ("deflate, br", Encoding::Identity),
        ] {
            assert_eq!(encoding(Some(header)), expected, "{header:?}");
        }
        assert_eq!(encoding(None), Encoding::Identity);
    }

    #[test]
    fn a_quality_that_cannot_be_read_counts_as_not_said() {
        for q in ["", "x", "-1", "2", "nan", "inf", "1e999", "0x1", "½", &"9".repeat(100_000)] {
            assert_eq!(encoding(Some(&format!("gzip;q={q}, zstd;q=0.999"))), Encoding::Gzip, "{q:?}");
        }
    }

    #[test]
    fn only_so_many_entries_are_looked_at() {
        let filler = "x/y;q=0.1,".repeat(MOST_ENTRIES);
        check(&format!("{filler}application/openmetrics-text"), false, Format::Text);
        check(&format!("application/openmetrics-text,{filler}*/*"), false, Format::OpenMetrics);
        let parameters = ";a=b".repeat(MOST_PARAMETERS);
        assert_eq!(encoding(Some(&format!("gzip{parameters};q=0"))), Encoding::Gzip);
    }
}
