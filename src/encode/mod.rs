//! Rows to files.
//!
//! A [`Batch`] takes rows on the reading thread until it is about [`BATCH_BYTES`] large; a
//! [`PartWriter`] on the writing thread compresses batches into one part file on local disk. Buffers
//! are allocated per batch, never per row.

pub mod ndjson;
pub mod parquet;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::model::part::PartFile;
use crate::model::row::Row;
use crate::model::{FileFormat, RunId, Table, TableTotals};

/// About how large a batch grows before it is handed to the writing thread, in bytes of encoded rows.
pub const BATCH_BYTES: usize = 1024 * 1024;

/// Meta columns that are the same for all rows of a run.
#[derive(Debug, Clone, Copy)]
pub struct RunStamp {
    /// `_run_id`
    pub run: RunId,
    /// `_synced_at`: when the run's offsets were frozen.
    pub synced_at: Timestamp,
}

/// The `_checksum` of a row: xxh3-64 of its encoded form up to the checksum itself, 31 bits, so that
/// every warehouse holds it in a signed 32-bit integer and sums of it in 64 bits.
pub fn checksum(encoded: &[u8]) -> u32 {
    (xxhash_rust::xxh3::xxh3_64(encoded) & 0x7fff_ffff) as u32
}

/// Rows of one table, encoded and on their way to a part file.
#[derive(Debug)]
pub enum Batch {
    /// Lines of JSON.
    Ndjson(ndjson::NdjsonBatch),
    /// Columns.
    Parquet(Box<parquet::ParquetBatch>),
}

impl Batch {
    /// An empty batch.
    pub fn new(table: Table, format: FileFormat, stamp: &RunStamp) -> Self {
        match format {
            FileFormat::NdjsonGzip | FileFormat::NdjsonZstd => Batch::Ndjson(ndjson::NdjsonBatch::new(table, stamp)),
            FileFormat::Parquet => Batch::Parquet(Box::new(parquet::ParquetBatch::new(table, stamp))),
        }
    }

    /// Encodes a row.
    pub fn push(&mut self, row: &Row<'_>) {
        match self {
            Batch::Ndjson(batch) => batch.push(row),
            Batch::Parquet(batch) => batch.push(row),
        }
    }

    /// Bytes of encoded rows.
    pub fn bytes(&self) -> usize {
        match self {
            Batch::Ndjson(batch) => batch.bytes(),
            Batch::Parquet(batch) => batch.bytes(),
        }
    }

    /// Rows and checksum.
    pub fn totals(&self) -> TableTotals {
        match self {
            Batch::Ndjson(batch) => batch.totals(),
            Batch::Parquet(batch) => batch.totals(),
        }
    }

    /// Empties the batch and keeps its buffers.
    pub fn clear(&mut self) {
        match self {
            Batch::Ndjson(batch) => batch.clear(),
            Batch::Parquet(batch) => batch.clear(),
        }
    }
}

enum Encoder {
    Gzip(flate2::write::GzEncoder<HashingFile>),
    Zstd(zstd::stream::write::Encoder<'static, HashingFile>),
    Parquet(Box<parquet::ParquetWriter>),
}

/// Writes batches of one table into one part file.
pub struct PartWriter {
    table: Table,
    part: u32,
    path: PathBuf,
    totals: TableTotals,
    encoder: Encoder,
}

/// Compression level of gzip: 1 runs at about five times the speed of 6, and compression is the largest
/// part of the work.
const GZIP_LEVEL: u32 = 1;
/// Compression level of Zstandard: 1 is the fastest, and its files are smaller than gzip's.
const ZSTD_LEVEL: i32 = 1;

impl PartWriter {
    /// Creates the file.
    pub fn create(table: Table, part: u32, format: FileFormat, path: PathBuf) -> io::Result<Self> {
        let file = HashingFile::create(&path)?;
        let encoder = match format {
            // The header carries no time and no name, so that equal rows make equal bytes.
            FileFormat::NdjsonGzip => Encoder::Gzip(flate2::write::GzEncoder::new(file, flate2::Compression::new(GZIP_LEVEL))),
            FileFormat::NdjsonZstd => Encoder::Zstd(zstd::stream::write::Encoder::new(file, ZSTD_LEVEL)?),
            FileFormat::Parquet => Encoder::Parquet(Box::new(parquet::ParquetWriter::new(table, file)?)),
        };
        Ok(Self { table, part, path, totals: TableTotals::default(), encoder })
    }

    /// Appends a batch.
    pub fn write(&mut self, batch: &Batch) -> io::Result<()> {
        match (&mut self.encoder, batch) {
            (Encoder::Gzip(encoder), Batch::Ndjson(batch)) => encoder.write_all(batch.lines())?,
            (Encoder::Zstd(encoder), Batch::Ndjson(batch)) => encoder.write_all(batch.lines())?,
            (Encoder::Parquet(writer), Batch::Parquet(batch)) => writer.write(batch)?,
            _ => return Err(io::Error::other("a batch of another format")),
        }
        self.totals += batch.totals();
        Ok(())
    }

    /// Bytes written to the file so far; what the compressor still holds is not counted.
    pub fn compressed_bytes(&self) -> u64 {
        match &self.encoder {
            Encoder::Gzip(encoder) => encoder.get_ref().written,
            Encoder::Zstd(encoder) => encoder.get_ref().written,
            Encoder::Parquet(writer) => writer.written(),
        }
    }

    /// Completes the file.
    pub fn finish(self) -> io::Result<PartFile> {
        let file = match self.encoder {
            Encoder::Gzip(encoder) => encoder.finish()?,
            Encoder::Zstd(encoder) => encoder.finish()?,
            Encoder::Parquet(writer) => writer.finish()?,
        };
        let (bytes, sha256) = file.finish()?;
        Ok(PartFile { table: self.table, part: self.part, path: self.path, bytes, sha256, totals: self.totals })
    }
}

/// A file that hashes what is written to it.
pub struct HashingFile {
    file: io::BufWriter<File>,
    hasher: aws_lc_rs::digest::Context,
    written: u64,
}

impl HashingFile {
    fn create(path: &Path) -> io::Result<Self> {
        let file = io::BufWriter::with_capacity(256 * 1024, File::create(path)?);
        Ok(Self { file, hasher: aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256), written: 0 })
    }

    fn finish(self) -> io::Result<(u64, String)> {
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((self.written, crate::model::position::hex(self.hasher.finish().as_ref())))
    }
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reads a part file back and counts its rows and their checksums anew, from the encoded rows
/// themselves and not from what they claim. Rows whose `_checksum` differs are an error.
pub fn recount(path: &Path, table: Table, format: FileFormat) -> io::Result<TableTotals> {
    let file = File::open(path)?;
    match format {
        FileFormat::NdjsonGzip => ndjson::recount(flate2::read::MultiGzDecoder::new(file)),
        FileFormat::NdjsonZstd => ndjson::recount(zstd::stream::read::Decoder::new(file)?),
        FileFormat::Parquet => parquet::recount(file, table),
    }
}

/// Calls `each` with every row of an NDJSON or Parquet file as a JSON object.
pub fn rows(
    path: &Path,
    format: FileFormat,
    each: &mut dyn FnMut(serde_json::Map<String, serde_json::Value>) -> io::Result<()>,
) -> io::Result<()> {
    let file = File::open(path)?;
    match format {
        FileFormat::NdjsonGzip => ndjson::rows(flate2::read::MultiGzDecoder::new(file), each),
        FileFormat::NdjsonZstd => ndjson::rows(zstd::stream::read::Decoder::new(file)?, each),
        FileFormat::Parquet => parquet::rows(file, each),
    }
}
