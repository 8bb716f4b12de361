//! Columns: Parquet with Zstandard pages, written without Arrow.
//!
//! | column type | Parquet type |
//! |---|---|
//! | text | `BYTE_ARRAY`, `STRING` |
//! | JSON | `BYTE_ARRAY`, `STRING`: the text as it stands in the stream, since not every reader knows `JSON` |
//! | timestamp | `INT64`, `TIMESTAMP(MICROS, UTC)` |
//! | integer | `INT64` |
//! | boolean | `BOOLEAN` |
//!
//! Only pages, encodings and types of Parquet 1.0 are used, so that every warehouse's loader reads the
//! files. A row group is written column after column while rows arrive one by one, so the rows of the
//! open group wait in memory, uncompressed: see `ROW_GROUP_BYTES`.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as PhysicalType, ZstdLevel};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{ColumnPath, SchemaDescriptor, Type};

use super::ndjson::push_value;
use super::{HashingFile, RunStamp, ZSTD_LEVEL, checksum};
use crate::model::row::{Row, Value, unquote};
use crate::model::table::{Column, ColumnType};
use crate::model::time::write_rfc3339;
use crate::model::{Table, TableTotals};

/// How many bytes of rows, before compression, make a row group.
///
/// They are held in memory until the group is written, so this and one batch is what an open file
/// costs, beside about 4 MiB of pages and compressor while it is written. A run has 32 MiB for
/// everything. Larger groups would not make better files: with 16 MiB a file of events of 1 KB is 0.5 %
/// smaller, with 4 MiB 0.5 % larger (measured), since JSON fills its pages of 1 MiB either way.
const ROW_GROUP_BYTES: usize = 8 * 1024 * 1024;

/// Rows that are read at a time; a row group bounds what they hold.
const READ_ROWS: usize = 1024;

/// The last column that differs from row to row; those behind it are the same for a whole run.
const CHECKSUM: &str = "_checksum";

/// True for columns that are never NULL: the key, and the meta columns but `_original`.
fn is_required(column: &Column) -> bool {
    matches!(column.name, "id" | "stream") || (column.name.starts_with('_') && column.name != "_original")
}

/// True for columns with few distinct values, which a dictionary makes small. For others it costs
/// time and memory until the writer notices that it does not pay.
fn is_repetitive(column: &Column) -> bool {
    matches!(
        column.name,
        "metric_id"
            | "metric_name"
            | "integration_id"
            | "integration_key"
            | "integration_name"
            | "integration_category"
            | "locale"
            | "organization"
            | "title"
            | "stream"
            | "key_encoding"
            | "value_encoding"
            | "reason"
            | "_partition"
            | "_run_id"
            | "_synced_at"
    )
}

/// True for columns whose least and greatest value tell a reader nothing.
fn is_document(column: &Column) -> bool {
    column.column_type == ColumnType::Json || matches!(column.name, "value" | "detail" | "_original")
}

fn physical_type(column: &Column) -> PhysicalType {
    match column.column_type {
        ColumnType::Text | ColumnType::Json => PhysicalType::BYTE_ARRAY,
        ColumnType::Timestamp | ColumnType::Integer => PhysicalType::INT64,
        ColumnType::Boolean => PhysicalType::BOOLEAN,
    }
}

/// The content of one column of one row, as a file holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cell<'a> {
    Null,
    Text(&'a [u8]),
    Integer(i64),
    Boolean(bool),
}

impl Cell<'_> {
    /// Appends the canonical form, of which the `_checksum` of a row is made.
    ///
    /// The canonical form of a row is that of its columns, in file order, up to `_checksum`:
    ///
    /// - a column that is NULL: the byte 0;
    /// - text and JSON: the byte 1, the length in bytes as an unsigned 64-bit integer, the bytes;
    /// - integers and timestamps (microseconds): the byte 1, a signed 64-bit integer;
    /// - booleans: the byte 1, the byte 0 or 1;
    ///
    /// integers with the least significant byte first. The types of the columns are known, so no two
    /// rows have the same form. It can be rebuilt from the columns alone.
    fn write_canonical(self, into: &mut Vec<u8>) {
        match self {
            Cell::Null => into.push(0),
            Cell::Text(text) => {
                into.push(1);
                into.extend_from_slice(&(text.len() as u64).to_le_bytes());
                into.extend_from_slice(text);
            }
            Cell::Integer(integer) => {
                into.push(1);
                into.extend_from_slice(&integer.to_le_bytes());
            }
            Cell::Boolean(boolean) => into.extend_from_slice(&[1, boolean.into()]),
        }
    }
}

/// The values of a column that are not NULL.
#[derive(Clone)]
enum Values {
    /// All texts behind each other, and where each ends.
    Text {
        bytes: Vec<u8>,
        ends: Vec<usize>,
    },
    Integers(Vec<i64>),
    Booleans(Vec<bool>),
}

/// One column of a batch.
#[derive(Clone)]
struct ColumnBuffer {
    column: &'static Column,
    values: Values,
    /// For each row 1 where it has a value and 0 where it is NULL. Not kept for required columns.
    levels: Option<Vec<i16>>,
}

impl ColumnBuffer {
    fn new(column: &'static Column) -> Self {
        let values = match physical_type(column) {
            PhysicalType::BYTE_ARRAY => Values::Text { bytes: Vec::new(), ends: Vec::new() },
            PhysicalType::BOOLEAN => Values::Booleans(Vec::new()),
            _ => Values::Integers(Vec::new()),
        };
        Self { column, values, levels: (!is_required(column)).then(Vec::new) }
    }

    fn clear(&mut self) {
        match &mut self.values {
            Values::Text { bytes, ends } => {
                bytes.clear();
                ends.clear();
            }
            Values::Integers(integers) => integers.clear(),
            Values::Booleans(booleans) => booleans.clear(),
        }
        if let Some(levels) = &mut self.levels {
            levels.clear();
        }
    }

    /// Appends a value and its canonical form.
    ///
    /// Panics when the value is none of the column's type, or when a required column has none: the
    /// parser never makes such rows, and a row that is silently another one must not be written.
    fn push(&mut self, value: Value<'_>, canonical: &mut Vec<u8>) {
        let is_null = match value {
            Value::Null => true,
            Value::Json(text) => text == "null" && self.column.column_type == ColumnType::Text,
            _ => false,
        };
        match &mut self.levels {
            Some(levels) => levels.push((!is_null).into()),
            None => assert!(!is_null, "the column `{}` is never NULL", self.column.name),
        }
        let cell = match (&mut self.values, self.column.column_type, value) {
            _ if is_null => Cell::Null,
            (Values::Text { bytes, ends }, column_type, value) => {
                let start = bytes.len();
                match column_type {
                    ColumnType::Text => push_plain(bytes, &value),
                    _ => push_value(bytes, &value),
                }
                ends.push(bytes.len());
                Cell::Text(&bytes[start..])
            }
            (Values::Integers(integers), ColumnType::Timestamp, Value::Micros(integer))
            | (Values::Integers(integers), ColumnType::Integer, Value::Integer(integer)) => {
                integers.push(integer);
                Cell::Integer(integer)
            }
            (Values::Booleans(booleans), _, Value::Boolean(boolean)) => {
                booleans.push(boolean);
                Cell::Boolean(boolean)
            }
            // The value itself is the customer's and does not belong in a log.
            (_, column_type, _) => panic!("the column `{}` holds values of type {column_type:?}", self.column.name),
        };
        cell.write_canonical(canonical);
    }

    /// Moves the values into an open column of the file.
    fn write_to(self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let levels = self.levels.as_deref();
        match self.values {
            Values::Text { bytes, ends } => {
                // All values share one allocation; each is a counted reference to its part.
                let bytes = Bytes::from(bytes);
                let mut start = 0;
                let mut texts = Vec::with_capacity(ends.len());
                for end in ends {
                    texts.push(ByteArray::from(bytes.slice(start..end)));
                    start = end;
                }
                writer.typed::<ByteArrayType>().write_batch(&texts, levels, None)?;
            }
            Values::Integers(integers) => {
                writer.typed::<Int64Type>().write_batch(&integers, levels, None)?;
            }
            Values::Booleans(booleans) => {
                writer.typed::<BoolType>().write_batch(&booleans, levels, None)?;
            }
        }
        Ok(())
    }
}

/// Appends a value as plain text.
fn push_plain(into: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Text(text) => into.extend_from_slice(text.as_bytes()),
        // Where text is expected and is none, or none that Unicode knows (half of a surrogate pair), its JSON is the text.
        Value::Json(token) => into.extend_from_slice(unquote(token).as_deref().unwrap_or(token).as_bytes()),
        Value::Micros(micros) => write_rfc3339(*micros, into),
        Value::Null | Value::Integer(_) | Value::Boolean(_) => push_value(into, value),
    }
}

/// The rows of a batch, by column.
#[derive(Clone)]
struct Rows {
    /// The columns up to and with `_checksum`.
    columns: Vec<ColumnBuffer>,
    count: usize,
    run: Bytes,
    synced_at: i64,
}

impl Rows {
    /// Moves the rows' values of a column into the file.
    fn write_column(&mut self, column: &'static Column, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        match column.name {
            "_run_id" => {
                let run = vec![ByteArray::from(self.run.clone()); self.count];
                writer.typed::<ByteArrayType>().write_batch(&run, None, None)?;
            }
            "_synced_at" => {
                writer.typed::<Int64Type>().write_batch(&vec![self.synced_at; self.count], None, None)?;
            }
            _ => {
                // Columns are written in file order, so the first is the one; what is written needs no memory any more.
                let buffer = self.columns.remove(0);
                debug_assert_eq!(buffer.column, column);
                buffer.write_to(writer)?;
            }
        }
        Ok(())
    }
}

/// Rows by column, ready to be put into a row group. Buffers are kept from use to use; a row
/// allocates nothing.
pub struct ParquetBatch {
    table: Table,
    rows: Rows,
    /// The canonical form of the row that is being added.
    canonical: Vec<u8>,
    bytes: usize,
    totals: TableTotals,
}

impl ParquetBatch {
    /// An empty batch.
    pub fn new(table: Table, stamp: &RunStamp) -> Self {
        let mut columns = Vec::new();
        for column in table.all_columns() {
            columns.push(ColumnBuffer::new(column));
            if column.name == CHECKSUM {
                break;
            }
        }
        let rows = Rows { columns, count: 0, run: Bytes::from(stamp.run.to_string()), synced_at: stamp.synced_at.as_microsecond() };
        Self { table, rows, canonical: Vec::new(), bytes: 0, totals: TableTotals::default() }
    }

    /// Encodes a row.
    ///
    /// Panics when a value is not of its column's type or a required column has none.
    pub fn push(&mut self, row: &Row<'_>) {
        let canonical = &mut self.canonical;
        canonical.clear();
        let (own, meta) = self.rows.columns.split_at_mut(self.table.columns().len());
        let values = row.values.iter().copied().chain(std::iter::repeat(Value::Null));
        for (buffer, value) in own.iter_mut().zip(values) {
            buffer.push(value, canonical);
        }
        let mut row_checksum = 0;
        for buffer in meta {
            let value = match buffer.column.name {
                "_deleted" => Value::Boolean(row.deleted),
                "_version" => Value::Integer(row.version),
                "_partition" => Value::Integer(row.partition.into()),
                "_offset" => Value::Integer(row.offset),
                "_timestamp" => Value::Micros(row.timestamp.saturating_mul(1000)),
                "_original" => row.original.map_or(Value::Null, Value::Text),
                // The last one: all that it covers stands before it.
                _ => {
                    row_checksum = checksum(canonical);
                    Value::Integer(row_checksum.into())
                }
            };
            buffer.push(value, canonical);
        }
        self.rows.count += 1;
        self.bytes += canonical.len();
        self.totals += TableTotals { rows: 1, checksum: u64::from(row_checksum) };
    }

    /// Bytes of encoded rows; about what their buffers hold.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Rows and checksum.
    pub fn totals(&self) -> TableTotals {
        self.totals
    }

    /// Empties the batch and keeps its buffers.
    pub fn clear(&mut self) {
        self.rows.columns.iter_mut().for_each(ColumnBuffer::clear);
        self.rows.count = 0;
        self.bytes = 0;
        self.totals = TableTotals::default();
    }
}

impl std::fmt::Debug for ParquetBatch {
    /// Sizes only: rows do not belong in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetBatch")
            .field("table", &self.table)
            .field("bytes", &self.bytes)
            .field("totals", &self.totals)
            .finish_non_exhaustive()
    }
}

/// Writes batches into one Parquet file. Equal batches make equal bytes.
pub struct ParquetWriter {
    table: Table,
    writer: SerializedFileWriter<HashingFile>,
    /// The rows of the open row group. Exact copies of batches rather than one growing buffer, which
    /// would take up to twice the memory.
    group: Vec<Rows>,
    group_bytes: usize,
}

impl ParquetWriter {
    /// Begins a file.
    pub fn new(table: Table, file: HashingFile) -> io::Result<Self> {
        let schema = schema(table).map_err(io_error)?;
        let properties = properties(table).map_err(io_error)?;
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(io_error)?;
        Ok(Self { table, writer, group: Vec::new(), group_bytes: 0 })
    }

    /// Appends a batch. It is written to the file once about `ROW_GROUP_BYTES` have come together.
    pub fn write(&mut self, batch: &ParquetBatch) -> io::Result<()> {
        if batch.table != self.table {
            return Err(io::Error::other("a batch of another table"));
        }
        if batch.rows.count == 0 {
            return Ok(());
        }
        self.group.push(batch.rows.clone());
        self.group_bytes += batch.bytes();
        if self.group_bytes >= ROW_GROUP_BYTES {
            self.write_group().map_err(io_error)?;
        }
        Ok(())
    }

    /// Bytes written to the file so far; the rows of the open row group are not counted.
    pub fn written(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    /// Writes what is left and the footer.
    pub fn finish(mut self) -> io::Result<HashingFile> {
        self.write_group().map_err(io_error)?;
        self.writer.into_inner().map_err(io_error)
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = std::mem::take(&mut self.group);
        self.group_bytes = 0;
        if group.is_empty() {
            return Ok(());
        }
        let mut row_group = self.writer.next_row_group()?;
        for column in self.table.all_columns() {
            let mut writer = row_group.next_column()?.ok_or_else(|| ParquetError::General("too few columns".to_owned()))?;
            for rows in &mut group {
                rows.write_column(column, &mut writer)?;
            }
            writer.close()?;
        }
        row_group.close()?;
        Ok(())
    }
}

fn schema(table: Table) -> Result<Type, ParquetError> {
    let field = |column: &Column| {
        let logical = match column.column_type {
            ColumnType::Text | ColumnType::Json => Some(LogicalType::String),
            ColumnType::Timestamp => Some(LogicalType::timestamp(true, TimeUnit::MICROS)),
            ColumnType::Integer | ColumnType::Boolean => None,
        };
        let repetition = if is_required(column) { Repetition::REQUIRED } else { Repetition::OPTIONAL };
        let field = Type::primitive_type_builder(column.name, physical_type(column)).with_logical_type(logical).with_repetition(repetition);
        field.build().map(Arc::new)
    };
    let fields = table.all_columns().map(field).collect::<Result<Vec<_>, _>>()?;
    Type::group_type_builder(table.name()).with_fields(fields).build()
}

fn properties(table: Table) -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        // Most columns have one page in a row group, so an index of pages says what the row group says.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_dictionary_enabled(false);
    for column in table.all_columns() {
        if is_repetitive(column) {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(column.name), true);
        }
        if is_document(column) {
            properties = properties.set_column_statistics_enabled(ColumnPath::from(column.name), EnabledStatistics::None);
        }
    }
    Ok(properties.build())
}

/// The errors of the operating system as they are, such as a full disk; all others say that the file
/// is not what it should be.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) if error.raw_os_error().is_some() => *error,
            Ok(error) => invalid(error),
            Err(source) => invalid(source),
        },
        other => invalid(other),
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A column of a row group that is being read.
struct OpenColumn<T: DataType> {
    reader: ColumnReaderImpl<T>,
    values: Vec<T::T>,
}

impl<T: DataType> OpenColumn<T> {
    fn new(reader: ColumnReaderImpl<T>) -> Self {
        Self { reader, values: Vec::new() }
    }

    fn read(&mut self, rows: usize, levels: Option<&mut Vec<i16>>) -> Result<usize, ParquetError> {
        self.values.clear();
        Ok(self.reader.read_records(rows, levels, None, &mut self.values)?.0)
    }
}

enum OpenValues {
    Text(OpenColumn<ByteArrayType>),
    Integers(OpenColumn<Int64Type>),
    Booleans(OpenColumn<BoolType>),
}

/// Reads a column, [`READ_ROWS`] rows at a time.
struct ColumnCursor {
    values: OpenValues,
    /// As in [`ColumnBuffer`].
    levels: Option<Vec<i16>>,
}

impl ColumnCursor {
    fn new(reader: ColumnReader, is_optional: bool) -> io::Result<Self> {
        let values = match reader {
            ColumnReader::ByteArrayColumnReader(reader) => OpenValues::Text(OpenColumn::new(reader)),
            ColumnReader::Int64ColumnReader(reader) => OpenValues::Integers(OpenColumn::new(reader)),
            ColumnReader::BoolColumnReader(reader) => OpenValues::Booleans(OpenColumn::new(reader)),
            _ => return Err(invalid("a column of a type that is never written")),
        };
        Ok(Self { values, levels: is_optional.then(Vec::new) })
    }

    /// Reads the next rows and tells how many there were.
    fn read(&mut self, rows: usize) -> Result<usize, ParquetError> {
        if let Some(levels) = &mut self.levels {
            levels.clear();
        }
        let levels = self.levels.as_mut();
        match &mut self.values {
            OpenValues::Text(column) => column.read(rows, levels),
            OpenValues::Integers(column) => column.read(rows, levels),
            OpenValues::Booleans(column) => column.read(rows, levels),
        }
    }

    /// The cell of a row, where `value` counts the values that were given out.
    fn cell(&self, row: usize, value: &mut usize) -> Cell<'_> {
        if self.levels.as_ref().is_some_and(|levels| levels[row] == 0) {
            return Cell::Null;
        }
        let at = *value;
        *value += 1;
        match &self.values {
            OpenValues::Text(column) => Cell::Text(column.values[at].data()),
            OpenValues::Integers(column) => Cell::Integer(column.values[at]),
            OpenValues::Booleans(column) => Cell::Boolean(column.values[at]),
        }
    }
}

/// The columns of a file, when they are those of the table, in order. Files may have fewer: a table
/// may get columns after a file was written.
fn columns_of(schema: &SchemaDescriptor, table: Table) -> Option<Vec<&'static Column>> {
    let mut known = table.all_columns();
    let mut find = |name: &str, found_type| known.find(|column| column.name == name && physical_type(column) == found_type);
    schema
        .columns()
        .iter()
        .map(|found| find(found.name(), found.physical_type()).filter(|_| found.max_rep_level() == 0 && found.max_def_level() <= 1))
        .collect()
}

/// Calls `each` with the number of each row, from 1, and its cells.
fn each_row(reader: &SerializedFileReader<File>, each: &mut dyn FnMut(u64, &[Cell<'_>]) -> io::Result<()>) -> io::Result<()> {
    let mut number = 0;
    for index in 0..reader.num_row_groups() {
        let row_group = reader.get_row_group(index).map_err(io_error)?;
        let mut cursors = Vec::new();
        for (at, column) in row_group.metadata().columns().iter().enumerate() {
            let column_reader = row_group.get_column_reader(at).map_err(io_error)?;
            cursors.push(ColumnCursor::new(column_reader, column.column_descr().max_def_level() > 0)?);
        }
        let mut left = usize::try_from(row_group.metadata().num_rows()).map_err(invalid)?;
        while left > 0 {
            let rows = left.min(READ_ROWS);
            for cursor in &mut cursors {
                if cursor.read(rows).map_err(io_error)? != rows {
                    return Err(invalid(format!("row group {index}: a column has too few rows")));
                }
            }
            let mut given = vec![0; cursors.len()];
            let mut cells = Vec::with_capacity(cursors.len());
            for row in 0..rows {
                number += 1;
                cells.clear();
                cells.extend(cursors.iter().zip(&mut given).map(|(cursor, value)| cursor.cell(row, value)));
                each(number, &cells)?;
            }
            left -= rows;
        }
    }
    if i64::try_from(number).ok() != Some(reader.metadata().file_metadata().num_rows()) {
        return Err(invalid("the footer counts other rows than there are"));
    }
    Ok(())
}

/// Counts the rows of a file and computes their checksums anew from what its columns hold. A row whose
/// `_checksum` differs is an error of the kind `InvalidData` that names the row's number.
pub fn recount(file: File, table: Table) -> io::Result<TableTotals> {
    let reader = SerializedFileReader::new(file).map_err(io_error)?;
    let columns =
        columns_of(reader.metadata().file_metadata().schema_descr(), table).ok_or_else(|| invalid(format!("no file of `{table}`")))?;
    let covered = columns.iter().position(|column| column.name == CHECKSUM).ok_or_else(|| invalid("no checksum"))?;
    let mut totals = TableTotals::default();
    let mut canonical = Vec::new();
    each_row(&reader, &mut |number, cells| {
        canonical.clear();
        cells[..covered].iter().for_each(|cell| cell.write_canonical(&mut canonical));
        let computed = checksum(&canonical);
        if cells[covered] != Cell::Integer(computed.into()) {
            return Err(invalid(format!("row {number}: its checksum is not that of its content")));
        }
        totals += TableTotals { rows: 1, checksum: u64::from(computed) };
        Ok(())
    })?;
    Ok(totals)
}

/// Calls `each` with every row as a JSON object, of the same form as in NDJSON: JSON columns as JSON,
/// timestamps as RFC 3339 text, columns that are NULL left out.
pub fn rows(file: File, each: &mut dyn FnMut(serde_json::Map<String, serde_json::Value>) -> io::Result<()>) -> io::Result<()> {
    let reader = SerializedFileReader::new(file).map_err(io_error)?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let columns = Table::ALL.into_iter().find_map(|table| columns_of(schema, table)).ok_or_else(|| invalid("no file of a known table"))?;
    each_row(&reader, &mut |number, cells| {
        let mut object = serde_json::Map::new();
        for (column, cell) in columns.iter().zip(cells) {
            if *cell != Cell::Null {
                let value =
                    json_value(column, *cell).map_err(|error| invalid(format!("row {number}: column `{}`: {error}", column.name)))?;
                object.insert(column.name.to_owned(), value);
            }
        }
        each(object)
    })
}

fn json_value(column: &Column, cell: Cell<'_>) -> io::Result<serde_json::Value> {
    Ok(match (cell, column.column_type) {
        (Cell::Null, _) => serde_json::Value::Null,
        (Cell::Text(text), ColumnType::Json) => serde_json::from_slice(text)?,
        (Cell::Text(text), _) => std::str::from_utf8(text).map_err(invalid)?.into(),
        (Cell::Integer(micros), ColumnType::Timestamp) => {
            let mut text = Vec::new();
            write_rfc3339(micros, &mut text);
            String::from_utf8(text).map_err(invalid)?.into()
        }
        (Cell::Integer(integer), _) => integer.into(),
        (Cell::Boolean(boolean), _) => boolean.into(),
    })
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
