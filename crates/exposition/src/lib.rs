//! The metric model and the wire formats that it is written in.
//!
//! Reading order: [`family`] says what a metric family is, [`builder`] how collectors record one,
//! [`merge`] lays the families of several sets side by side in the order of the wire,
//! [`negotiate`] chooses a format and a compression for a client, and each format has one file that writes a
//! [`Page`] in it: [`text`], [`openmetrics`], [`protobuf`]. [`stream`] writes the page of a fleet piece by piece.
//! What is pushed is made by [`remote_write`], and [`otlp`] makes its bodies of that.
//! Below them are [`number`], [`points`] and [`wire`].
//!
//! This package is pure: no files, no sockets, no clock, no tokio. It is fuzzed and measured alone.

pub mod builder;
pub mod family;
pub mod merge;
pub mod negotiate;
pub mod number;
pub mod openmetrics;
pub mod otlp;
pub mod points;
pub mod protobuf;
pub mod remote_write;
pub mod stream;
pub mod text;
pub mod wire;

pub use builder::{Builder, FamilyId, LabelSet, Mark};
pub use family::{Desc, Families, Kind};
pub use merge::Page;
pub use negotiate::{Encoding, Escaping, Format};
pub use stream::{Labelled, Stream};

/// Appends `page` to `out` in that format.
pub fn write(format: Format, out: &mut Vec<u8>, page: &Page<'_>) {
    match format {
        Format::Text => text::write(out, page),
        Format::OpenMetrics => openmetrics::write(out, page),
        Format::Protobuf => protobuf::write(out, page),
    }
}
