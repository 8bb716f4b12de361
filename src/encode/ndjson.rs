//! One JSON object per line. Columns that are NULL are left out, meta columns always stand there.

use std::io::{self, BufRead, BufReader, Read};

use crate::encode::{RunStamp, checksum};
use crate::model::row::{Row, Value};
use crate::model::time::write_rfc3339;
use crate::model::{Table, TableTotals};

/// Lines of JSON, ready to be compressed.
#[derive(Debug)]
pub struct NdjsonBatch {
    lines: Vec<u8>,
    totals: TableTotals,
    /// `"name":` of each column, with the comma before it.
    names: Vec<Vec<u8>>,
    /// What follows the checksum: the columns that are the same for all rows of a run.
    tail: Vec<u8>,
}

const CHECKSUM: &[u8] = b",\"_checksum\":";

impl NdjsonBatch {
    /// An empty batch.
    pub fn new(table: Table, stamp: &RunStamp) -> Self {
        let names = table.columns().iter().map(|column| format!(",\"{}\":", column.name).into_bytes()).collect();
        let mut tail = format!(",\"_run_id\":\"{}\",\"_synced_at\":\"", stamp.run).into_bytes();
        write_rfc3339(stamp.synced_at.as_microsecond(), &mut tail);
        tail.extend_from_slice(b"\"}\n");
        Self { lines: Vec::with_capacity(super::BATCH_BYTES + super::BATCH_BYTES / 16), totals: TableTotals::default(), names, tail }
    }

    /// Encodes a row.
    pub fn push(&mut self, row: &Row<'_>) {
        let lines = &mut self.lines;
        let start = lines.len();
        lines.push(b'{');
        for (name, value) in self.names.iter().zip(row.values) {
            if *value == Value::Null {
                continue;
            }
            // The first column has no comma before it.
            let name = if lines.len() == start + 1 { &name[1..] } else { name };
            lines.extend_from_slice(name);
            push_value(lines, value);
        }
        push_meta(lines, row);
        let checksum = checksum(&lines[start..]);
        lines.extend_from_slice(CHECKSUM);
        push_integer(lines, i64::from(checksum));
        lines.extend_from_slice(&self.tail);
        self.totals += TableTotals { rows: 1, checksum: u64::from(checksum) };
    }

    /// The encoded lines.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Bytes of encoded rows.
    pub fn bytes(&self) -> usize {
        self.lines.len()
    }

    /// Rows and checksum.
    pub fn totals(&self) -> TableTotals {
        self.totals
    }

    /// Empties the batch and keeps its buffers.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.totals = TableTotals::default();
    }
}

/// The meta columns that differ from row to row, up to the checksum.
fn push_meta(lines: &mut Vec<u8>, row: &Row<'_>) {
    if row.table != Table::Rejected {
        lines.extend_from_slice(if row.deleted { b",\"_deleted\":true" } else { b",\"_deleted\":false" });
    }
    for (name, value) in
        [(&b",\"_version\":"[..], row.version), (b",\"_partition\":", row.partition.into()), (b",\"_offset\":", row.offset)]
    {
        lines.extend_from_slice(name);
        push_integer(lines, value);
    }
    lines.extend_from_slice(b",\"_timestamp\":\"");
    write_rfc3339(row.timestamp.saturating_mul(1000), lines);
    lines.push(b'"');
    if let Some(original) = row.original {
        lines.extend_from_slice(b",\"_original\":");
        push_text(lines, original);
    }
}

/// Appends a value as JSON.
pub(super) fn push_value(lines: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Null => lines.extend_from_slice(b"null"),
        Value::Json(text) => lines.extend_from_slice(text.as_bytes()),
        Value::Text(text) => push_text(lines, text),
        Value::Micros(micros) => {
            lines.push(b'"');
            write_rfc3339(*micros, lines);
            lines.push(b'"');
        }
        Value::Integer(integer) => push_integer(lines, *integer),
        Value::Boolean(boolean) => lines.extend_from_slice(if *boolean { b"true" } else { b"false" }),
    }
}

fn push_integer(lines: &mut Vec<u8>, integer: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = integer.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if integer < 0 {
        lines.push(b'-');
    }
    lines.extend_from_slice(&digits[at..]);
}

/// Appends text as a JSON string; only what JSON demands is escaped.
pub(super) fn push_text(lines: &mut Vec<u8>, text: &str) {
    lines.push(b'"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => &[],
            _ => continue,
        };
        lines.extend_from_slice(&text.as_bytes()[plain..at]);
        if escape.is_empty() {
            lines.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        } else {
            lines.extend_from_slice(escape);
        }
        plain = at + 1;
    }
    lines.extend_from_slice(&text.as_bytes()[plain..]);
    lines.push(b'"');
}

/// Counts the rows of NDJSON text and computes their checksums anew.
pub fn recount(text: impl Read) -> io::Result<TableTotals> {
    let mut totals = TableTotals::default();
    each_line(text, &mut |line| {
        // The tail has no quotes in its values, so the last occurrence is the column and not text of the row.
        let at = memchr::memmem::rfind(line, CHECKSUM).ok_or_else(|| invalid(totals.rows, "no checksum"))?;
        let computed = checksum(&line[..at]);
        let claimed = line[at + CHECKSUM.len()..].split(|byte| *byte == b',').next().unwrap_or_default();
        if claimed != computed.to_string().as_bytes() {
            return Err(invalid(totals.rows, "its checksum is not that of its content"));
        }
        totals += TableTotals { rows: 1, checksum: u64::from(computed) };
        Ok(())
    })?;
    Ok(totals)
}

/// Calls `each` with every line as a JSON object.
pub fn rows(text: impl Read, each: &mut dyn FnMut(serde_json::Map<String, serde_json::Value>) -> io::Result<()>) -> io::Result<()> {
    each_line(text, &mut |line| each(serde_json::from_slice(line)?))
}

fn each_line(text: impl Read, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(256 * 1024, text);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        each(&line)?;
    }
}

fn invalid(row: u64, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {what}", row + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunId;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn batch(table: Table) -> NdjsonBatch {
        NdjsonBatch::new(table, &RunStamp { run: RunId(Uuid::nil()), synced_at: Timestamp::from_second(1_800_000_000).unwrap() })
    }

    fn row<'a>(values: &'a [Value<'a>]) -> Row<'a> {
        Row {
            table: Table::Event,
            values,
            deleted: false,
            version: 5,
            partition: 3,
            offset: 9,
            timestamp: 1_788_529_135_123,
            original: None,
        }
    }

    #[test]
    fn a_line_has_its_columns_in_order() {
        let mut batch = batch(Table::Event);
        let mut values = [Value::Null; 12];
        values[0] = Value::Json("\"a\"");
        values[1] = Value::Micros(1_788_529_135_000_000);
        values[9] = Value::Json("{\"x\":1}");
        batch.push(&row(&values));
        let line = String::from_utf8(batch.lines().to_vec()).unwrap();
        let expected = "{\"id\":\"a\",\"datetime\":\"2026-09-04T13:38:55Z\",\"event_properties\":{\"x\":1},\"_deleted\":false,\"_version\":5,\"_partition\":3,\"_offset\":9,\"_timestamp\":\"2026-09-04T13:38:55.123000Z\",\"_checksum\":";
        assert!(line.starts_with(expected), "{line}");
        assert!(
            line.ends_with(",\"_run_id\":\"00000000-0000-0000-0000-000000000000\",\"_synced_at\":\"2027-01-15T08:00:00Z\"}\n"),
            "{line}"
        );
        assert_eq!(recount(batch.lines()).unwrap(), batch.totals());
    }

    #[test]
    fn an_altered_line_is_noticed() {
        let mut batch = batch(Table::Event);
        batch.push(&row(&[Value::Json("\"a\""), Value::Text("x,\"_checksum\":1,")]));
        assert_eq!(recount(batch.lines()).unwrap(), batch.totals());
        let altered = batch.lines().to_vec().iter().map(|byte| if *byte == b'3' { b'4' } else { *byte }).collect::<Vec<_>>();
        assert!(recount(altered.as_slice()).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut line = Vec::new();
            push_text(&mut line, &text);
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(serde_json::from_slice::<String>(&line).unwrap(), text);
        }

        #[test]
        fn any_integer_is_read_back(integer: i64) {
            let mut line = Vec::new();
            push_integer(&mut line, integer);
            prop_assert_eq!(String::from_utf8(line).unwrap(), integer.to_string());
        }
    }
}
