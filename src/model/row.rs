//! A row on its way from the parser to an encoder: borrowed values, in column order.

use std::borrow::Cow;

use super::position::{Millis, Offset, Partition};
use super::table::Table;

/// The value of one column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Nothing.
    Null,
    /// JSON text as it stands in the stream, without line breaks: a quoted string for text columns,
    /// any JSON for JSON columns.
    Json(&'a str),
    /// Plain text, not yet quoted.
    Text(&'a str),
    /// Microseconds since the Unix epoch.
    Micros(i64),
    /// An integer.
    Integer(i64),
    /// True or false.
    Boolean(bool),
}

/// One row. Meta columns that are the same for a whole run are the encoder's.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The table.
    pub table: Table,
    /// Values of [`Table::columns`], in order.
    pub values: &'a [Value<'a>],
    /// `_deleted`
    pub deleted: bool,
    /// `_version`
    pub version: Millis,
    /// `_partition`
    pub partition: Partition,
    /// `_offset`
    pub offset: Offset,
    /// `_timestamp`
    pub timestamp: Millis,
    /// `_original`: the resource as text, where a column cannot hold a value exactly.
    pub original: Option<&'a str>,
}

/// The text of a JSON string token; `None` when it is no string.
pub fn unquote(token: &str) -> Option<Cow<'_, str>> {
    let inner = token.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(token).ok().map(Cow::Owned)
}
