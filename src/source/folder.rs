//! A folder of NDJSON files: the embedded source, and the way to load archives.
//!
//! `root/{profiles,events,metrics}/*.ndjson`, `.ndjson.gz` or `.ndjson.zst`; names that start with a dot are
//! left out. One file is one partition, one line is one record, the line's number, from 0, its offset.
//!
//! **A line** is the resource itself, stamped with its own time (an event's `datetime`, a profile's
//! `updated`, a metric's `updated` or else `created`; 0 without one), or an envelope
//! `{"key": …, "value": {…} | null, "timestamp": <ms>}`: an object with a member `value` and none named
//! `type`. A `null` value is a deletion; a key or time that is missing is the resource's own. A line that is
//! neither is delivered as it stands, for the engine to reject. A blank line is a hole: an offset without a record.
//!
//! **Files only grow**, and a writer ends the last line before it adds one. A last line without an end counts
//! when it is one complete JSON object: an archive may lack the final newline, but what is half-written
//! never ends an object. A compressed file that breaks off is still being written: what can be decompressed
//! counts by the same rule. Any other damage is an error.
//!
//! **Numbers of partitions** are fixed when a file is first seen and kept in a file of their own, so that files
//! may be added anywhere in the order of names. Names are kept without `.gz` and `.zst`: a file that log
//! rotation compresses stays the partition that it is.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::{Bounds, ReadEnd, RecordSink, Source};
use crate::model::position::Millis;
use crate::model::record::Record;
use crate::model::row::unquote;
use crate::model::{ErrorCode, Object, Offset, Partition, Range, RetryHint, Slice, Stage, SyncError, time};

/// What every file's name ends with, before the suffix of its compression.
const EXTENSION: &str = ".ndjson";
/// Size of the read buffers.
const BUFFER_BYTES: usize = 256 << 10;
/// Longest line that is read: a file that is no NDJSON must not fill the memory.
const MAX_LINE_BYTES: usize = 64 << 20;
/// The byte position of every so many lines is remembered.
const LINES_PER_MARK: Offset = 64 << 10;
/// After how many lines a read looks whether it is to stop.
const LINES_PER_STOP_CHECK: Offset = 1_000;

/// A folder of NDJSON files as a source. See the module's documentation for the files' form.
pub struct FolderSource {
    root: PathBuf,
    partitions_file: PathBuf,
    indexes: Mutex<Indexes>,
}

/// Stream → name without compression suffix → partition, as it stands in `partitions_file`.
type Numbers = BTreeMap<Object, BTreeMap<String, Partition>>;

/// What was counted, by stream and name without compression suffix; each file is locked by itself.
type Indexes = HashMap<(Object, String), Arc<Mutex<Index>>>;

impl FolderSource {
    /// A source that reads the streams below `root`. `partitions_file` is written when a file is first
    /// seen; it belongs to the state: without it, partitions are numbered anew. Touches nothing until used.
    pub fn new(root: PathBuf, partitions_file: PathBuf) -> Self {
        Self { root, partitions_file, indexes: Mutex::default() }
    }

    fn folder(&self, object: Object) -> PathBuf {
        self.root.join(object.name())
    }

    /// The stream's files by name without compression suffix. Without a folder the stream is empty.
    fn files(&self, object: Object, stage: Stage) -> Result<BTreeMap<String, StreamFile>, SyncError> {
        let folder = self.folder(object);
        let failed = |error: io::Error| read_failed(&folder, stage, &error);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound && self.root.is_dir() => return Ok(BTreeMap::new()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let summary = format!("the folder `{}` does not exist", self.root.display());
                return Err(SyncError::new(ErrorCode::TopicNotFound, stage, summary)
                    .hint("Create the folder, or correct `path` under [folder], then retry the sync."));
            }
            Err(error) => return Err(failed(error)),
        };
        let mut files: BTreeMap<String, StreamFile> = BTreeMap::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            // Of names that are not UTF-8 two might look alike, which is noticed below.
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some((name, compression)) = split_name(&name).filter(|_| !path.is_dir()) else { continue };
            if let Some(other) = files.insert(name.to_owned(), StreamFile { path: path.clone(), compression }) {
                let summary = format!("`{}` and `{}` would be the same partition", other.path.display(), path.display());
                // While a file is being compressed both are there, so this may pass.
                return Err(SyncError::new(ErrorCode::ConfigurationInvalid, stage, summary)
                    .retry(RetryHint::Backoff)
                    .hint("Remove one of the two, if this is not a compression under way: then it goes on by itself."));
            }
        }
        Ok(files)
    }

    fn load_numbers(&self) -> Result<Numbers, SyncError> {
        let text = match fs::read(&self.partitions_file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Numbers::new()),
            Err(error) => return Err(self.numbers_not_kept(&error)),
        };
        serde_json::from_slice(&text).map_err(|error| self.numbers_damaged(&error.to_string()))
    }

    /// The stream's partitions. Files that are new get the next free numbers, in the order of their
    /// names; the numbers are on disk before anybody sees them.
    fn partitions(&self, object: Object, files: &BTreeMap<String, StreamFile>) -> Result<BTreeMap<String, Partition>, SyncError> {
        let known = self.load_numbers()?.remove(&object).unwrap_or_default();
        if let Some((name, partition)) = known.iter().find(|(name, _)| !files.contains_key(*name)) {
            return Err(vanished(&self.folder(object).join(name), *partition, Stage::Plan));
        }
        if known.len() == files.len() {
            return Ok(known);
        }
        let failed = |error: io::Error| self.numbers_not_kept(&error);
        let parent = self.partitions_file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = File::open(parent).map_err(failed)?;
        // Against other threads, and processes such as a preview beside the server; released with the handle.
        parent.lock().map_err(failed)?;
        let mut numbers = self.load_numbers()?;
        let stream = numbers.entry(object).or_default();
        for name in files.keys() {
            if !stream.contains_key(name) {
                let next = stream.values().max().map_or(Some(0), |last| last.checked_add(1));
                stream.insert(name.clone(), next.ok_or_else(|| self.numbers_damaged("no number is free"))?);
            }
        }
        let stream = stream.clone();
        self.store_numbers(&numbers, &parent).map_err(failed)?;
        Ok(stream)
    }

    fn store_numbers(&self, numbers: &Numbers, parent: &File) -> io::Result<()> {
        let mut temporary = self.partitions_file.clone().into_os_string();
        temporary.push(".tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(numbers)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.partitions_file)?;
        parent.sync_all()
    }

    fn numbers_not_kept(&self, error: &io::Error) -> SyncError {
        SyncError::new(ErrorCode::LocalDisk, Stage::Plan, format!("`{}` cannot be read or written", self.partitions_file.display()))
            .external(error)
    }

    fn numbers_damaged(&self, reason: &str) -> SyncError {
        SyncError::new(
            ErrorCode::ConfigurationInvalid,
            Stage::Plan,
            format!("`{}` does not hold the numbers of partitions", self.partitions_file.display()),
        )
        .external(reason)
        .hint("Restore the file from a backup, then retry the sync. Do not delete it: other numbers would mean other files.")
    }

    fn index(&self, object: Object, name: &str) -> Arc<Mutex<Index>> {
        Arc::clone(lock(&self.indexes).entry((object, name.to_owned())).or_default())
    }
}

impl Source for FolderSource {
    fn describe(&self) -> String {
        format!("folder {}", self.root.display())
    }

    fn stream_name(&self, object: Object) -> String {
        self.folder(object).display().to_string()
    }

    /// Counts what is new since the last call; compressed files that changed are counted anew. A file
    /// that has gone is [`ErrorCode::FileShrunk`]; one that became shorter is answered as it is, for the
    /// caller to compare with its checkpoint.
    fn bounds(&self, object: Object) -> Result<Bounds, SyncError> {
        let files = self.files(object, Stage::Plan)?;
        let partitions = self.partitions(object, &files)?;
        let mut bounds = Bounds::default();
        for (name, file) in &files {
            let Some(partition) = partitions.get(name).copied() else { continue };
            let index = self.index(object, name);
            let mut index = lock(&index);
            index.refresh(file).map_err(|error| read_failed(&file.path, Stage::Plan, &error))?;
            bounds.lowest.insert(partition, 0);
            bounds.next.insert(partition, index.next());
        }
        Ok(bounds)
    }

    /// Always the beginning: lines need not be in the order of their times.
    fn offsets_since(&self, _object: Object, _since: Millis, bounds: &Bounds) -> Result<BTreeMap<Partition, Offset>, SyncError> {
        Ok(bounds.lowest.keys().map(|partition| (*partition, 0)).collect())
    }

    /// Files are never compacted.
    fn deletion_retention(&self, _object: Object) -> Result<Option<Duration>, SyncError> {
        Ok(None)
    }

    /// One partition after the other. A plain file is entered near the slice's start once
    /// [`Source::bounds`] has counted it; a compressed one is decompressed from its beginning. A file that ends
    /// below the slice's end is [`ErrorCode::FileShrunk`].
    fn read(&self, object: Object, slice: &Slice, stop: &CancellationToken, sink: &mut RecordSink<'_>) -> Result<ReadEnd, SyncError> {
        let files = self.files(object, Stage::Stage)?;
        let numbers = self.load_numbers().map_err(|error| error.at(Stage::Stage))?.remove(&object).unwrap_or_default();
        let names: HashMap<Partition, String> = numbers.into_iter().map(|(name, partition)| (partition, name)).collect();
        let mut buffer = Vec::new();
        for (partition, range) in slice.ranges() {
            let Some(name) = names.get(&partition) else {
                let summary = format!("no file of `{}` has the partition number {partition}", self.stream_name(object));
                return Err(SyncError::new(ErrorCode::PartitionMissing, Stage::Stage, summary));
            };
            let file = files.get(name).ok_or_else(|| vanished(&self.folder(object).join(name), partition, Stage::Stage))?;
            let index = self.index(object, name);
            let (line, reader) = file.open_near(range.start, &index).map_err(|error| read_failed(&file.path, Stage::Stage, &error))?;
            let mut reader = LineReader { object, partition, path: &file.path, line, reader, buffer: &mut buffer };
            if reader.read(range, stop, sink)? == ReadEnd::Stopped {
                return Ok(ReadEnd::Stopped);
            }
        }
        Ok(ReadEnd::Complete)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// The name without the suffix of its compression; `None` for files that are none of ours.
fn split_name(name: &str) -> Option<(&str, Compression)> {
    let (base, compression) = match name.strip_suffix(".gz") {
        Some(base) => (base, Compression::Gzip),
        None => name.strip_suffix(".zst").map_or((name, Compression::Plain), |base| (base, Compression::Zstd)),
    };
    (base.ends_with(EXTENSION) && !base.starts_with('.')).then_some((base, compression))
}

struct StreamFile {
    path: PathBuf,
    compression: Compression,
}

impl StreamFile {
    /// The file's text, from its beginning; of a plain file from where `file` stands.
    fn text(&self, file: impl Read + 'static) -> io::Result<Box<dyn BufRead>> {
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(match self.compression {
            Compression::Plain => Box::new(file),
            Compression::Gzip => Box::new(BufReader::with_capacity(BUFFER_BYTES, Growing(flate2::bufread::MultiGzDecoder::new(file)))),
            Compression::Zstd => Box::new(BufReader::with_capacity(BUFFER_BYTES, Growing(zstd::Decoder::with_buffer(file)?))),
        })
    }

    /// A reader of the file's text that stands before `start`, and the line at which it stands.
    fn open_near(&self, start: Offset, index: &Mutex<Index>) -> io::Result<(Offset, Box<dyn BufRead>)> {
        let mut file = File::open(&self.path)?;
        let stamp = Stamp::of(&file, self.compression)?;
        let mark = (self.compression == Compression::Plain).then(|| lock(index).mark_before(start, &stamp)).flatten();
        let mut line = 0;
        if let Some((marked, position)) = mark
            && ends_a_line(&file, position)?
        {
            file.seek(SeekFrom::Start(position))?;
            line = marked;
        }
        Ok((line, self.text(file)?))
    }
}

/// Decompresses as much as is there: a file that breaks off is still being written.
struct Growing<R>(R);

impl<R: Read> Read for Growing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            result => result,
        }
    }
}

/// What tells that a file is still the one that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    compression: Compression,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &File, compression: Compression) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            compression,
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }

    /// True when `self` may be a plain file that has grown since `before`.
    fn continues(&self, before: &Stamp) -> bool {
        let place = |stamp: &Stamp| (stamp.compression, stamp.device, stamp.inode);
        self.compression == Compression::Plain && place(self) == place(before) && self.size >= before.size
    }
}

fn ends_a_line(file: &File, position: u64) -> io::Result<bool> {
    let Some(last) = position.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}

/// What was counted of a file.
#[derive(Debug, Default)]
struct Index {
    stamp: Option<Stamp>,
    /// Lines that have an end.
    lines: Offset,
    /// The byte behind the last of them.
    end: u64,
    /// True when a complete object without a line end follows.
    unterminated: bool,
    /// The byte behind every [`LINES_PER_MARK`] lines.
    marks: Vec<u64>,
}

impl Index {
    /// The offset that the next record will get.
    fn next(&self) -> Offset {
        self.lines + Offset::from(self.unterminated)
    }

    /// The last mark at or before a line, if it holds for the file that stands there now.
    fn mark_before(&self, line: Offset, now: &Stamp) -> Option<(Offset, u64)> {
        self.stamp.filter(|before| now.continues(before))?;
        let marks = usize::try_from(line / LINES_PER_MARK).ok()?.min(self.marks.len());
        let position = *self.marks.get(marks.checked_sub(1)?)?;
        Some((marks as Offset * LINES_PER_MARK, position))
    }

    /// Counts what has changed.
    fn refresh(&mut self, stream_file: &StreamFile) -> io::Result<()> {
        let mut file = File::open(&stream_file.path)?;
        let stamp = Stamp::of(&file, stream_file.compression)?;
        if self.stamp == Some(stamp) {
            return Ok(());
        }
        // Of the same size but modified, it was written anew.
        let grown = self.stamp.is_some_and(|before| stamp.continues(&before) && stamp.size > before.size);
        if !grown || !ends_a_line(&file, self.end)? {
            *self = Self::default();
        }
        // What is added meanwhile is left to the next call, when the size tells of it.
        let mut text = if stream_file.compression == Compression::Plain {
            file.seek(SeekFrom::Start(self.end))?;
            stream_file.text(file.take(stamp.size - self.end))?
        } else {
            stream_file.text(file)?
        };
        self.count(&mut text)?;
        self.stamp = Some(stamp);
        Ok(())
    }

    /// Counts on from the last complete line.
    fn count(&mut self, text: &mut dyn BufRead) -> io::Result<()> {
        let (mut position, mut rest) = (self.end, Vec::new());
        loop {
            let buffer = match text.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            if buffer.is_empty() {
                break;
            }
            let mut ended = 0;
            for line_feed in memchr::memchr_iter(b'\n', buffer) {
                ended = line_feed + 1;
                self.lines += 1;
                if self.lines % LINES_PER_MARK == 0 {
                    self.marks.push(position + ended as u64);
                }
            }
            if ended > 0 {
                self.end = position + ended as u64;
                rest.clear();
            }
            if rest.len() <= MAX_LINE_BYTES {
                rest.extend_from_slice(&buffer[ended..]);
            }
            let length = buffer.len();
            position += length as u64;
            text.consume(length);
        }
        self.unterminated = rest.len() <= MAX_LINE_BYTES && is_complete(&rest);
        Ok(())
    }
}

/// True for one complete JSON object: unlike a number, it can have no continuation.
fn is_complete(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// Reads one file's part of a slice.
struct LineReader<'r> {
    object: Object,
    partition: Partition,
    path: &'r Path,
    /// The line that comes next.
    line: Offset,
    reader: Box<dyn BufRead>,
    buffer: &'r mut Vec<u8>,
}

impl LineReader<'_> {
    fn read(&mut self, range: Range, stop: &CancellationToken, sink: &mut RecordSink<'_>) -> Result<ReadEnd, SyncError> {
        let first = self.line;
        while self.line < range.end {
            if (self.line - first) % LINES_PER_STOP_CHECK == 0 && stop.is_cancelled() {
                return Ok(ReadEnd::Stopped);
            }
            let found = if self.line < range.start { self.reader.skip_until(b'\n').map(|bytes| bytes > 0) } else { self.fetch() };
            if !found.map_err(|error| read_failed(self.path, Stage::Stage, &error))? {
                return Err(self.ended_early(range.end));
            }
            if self.line >= range.start {
                self.deliver(sink)?;
            }
            self.line += 1;
        }
        Ok(ReadEnd::Complete)
    }

    /// Puts the next line into the buffer; `false` at the end of the file.
    fn fetch(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        self.reader.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', self.buffer)?;
        if self.buffer.len() > MAX_LINE_BYTES {
            return Err(io::Error::new(ErrorKind::FileTooLarge, format!("line {} is longer than {MAX_LINE_BYTES} bytes", self.line)));
        }
        Ok(self.buffer.ends_with(b"\n") || is_complete(self.buffer))
    }

    fn deliver(&self, sink: &mut RecordSink<'_>) -> Result<(), SyncError> {
        let text = self.buffer.trim_ascii();
        if text.is_empty() {
            return Ok(());
        }
        let line = Line::parse(self.object, text).unwrap_or_else(|| Line::broken(self.buffer));
        let key = line.key.as_deref().map(str::as_bytes);
        sink(Record { partition: self.partition, offset: self.line, timestamp: line.timestamp, key, value: line.value })
    }

    fn ended_early(&self, end: Offset) -> SyncError {
        let summary = format!("`{}` ends after {} lines, but the run was planned up to line {end}", self.path.display(), self.line);
        SyncError::new(ErrorCode::FileShrunk, Stage::Stage, summary)
    }
}

/// What a line says.
struct Line<'a> {
    key: Option<Cow<'a, str>>,
    value: Option<&'a [u8]>,
    timestamp: Millis,
}

/// What the source itself looks at in a line, found in one pass: members as JSON text, `null` being a text, too.
#[derive(Default)]
struct Members<'a> {
    resource_type: Option<&'a str>,
    id: Option<&'a str>,
    key: Option<&'a str>,
    value: Option<&'a str>,
    timestamp: Option<&'a str>,
    /// Of the attributes, like the two that follow.
    datetime: Option<&'a str>,
    updated: Option<&'a str>,
    created: Option<&'a str>,
}

/// The names of those members.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Name {
    Type,
    Id,
    Key,
    Value,
    Timestamp,
    Attributes,
    Datetime,
    Updated,
    Created,
    #[serde(other)]
    Other,
}

/// Fills [`Members`] from a line (`true`) or from its attributes. A list or `null` in place of either has none.
struct Collect<'m, 'a>(&'m mut Members<'a>, bool);

impl<'a> DeserializeSeed<'a> for Collect<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Collect<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        let Self(members, is_line) = self;
        while let Some(name) = map.next_key::<Name>()? {
            let member = match (is_line, name) {
                (true, Name::Type) => &mut members.resource_type,
                (true, Name::Id) => &mut members.id,
                (true, Name::Key) => &mut members.key,
                (true, Name::Value) => &mut members.value,
                (true, Name::Timestamp) => &mut members.timestamp,
                (false, Name::Datetime) => &mut members.datetime,
                (false, Name::Updated) => &mut members.updated,
                (false, Name::Created) => &mut members.created,
                (true, Name::Attributes) => {
                    map.next_value_seed(Collect(members, false))?;
                    continue;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *member = Some(map.next_value::<&RawValue>()?.get());
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut list: S) -> Result<(), S::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

impl<'a> Line<'a> {
    /// `None` for a line that is not JSON, or not a sound envelope.
    fn parse(object: Object, line: &'a [u8]) -> Option<Self> {
        let members = Members::of(line)?;
        let Some(value) = members.value.filter(|_| members.resource_type.is_none()) else {
            return Some(Self { key: members.key_of_resource(), value: Some(line), timestamp: members.own_time(object) });
        };
        let given = |member: Option<&'a str>| member.filter(|text| *text != "null");
        let key = given(members.key).map(|text| unquote(text).ok_or(())).transpose().ok()?;
        let timestamp = given(members.timestamp).map(str::parse::<Millis>).transpose().ok()?;
        if value == "null" {
            return Some(Self { key, value: None, timestamp: timestamp.unwrap_or(0) });
        }
        let resource = || Members::of(value.as_bytes()).unwrap_or_default();
        Some(Self {
            key: key.or_else(|| resource().key_of_resource()),
            value: Some(value.as_bytes()),
            timestamp: timestamp.unwrap_or_else(|| resource().own_time(object)),
        })
    }

    /// A line that says nothing, as it stands, without its end.
    fn broken(line: &'a [u8]) -> Self {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        Self { key: None, value: Some(line.strip_suffix(b"\r").unwrap_or(line)), timestamp: 0 }
    }
}

impl<'a> Members<'a> {
    /// `None` for what is not JSON. What is no object has no members.
    fn of(json: &'a [u8]) -> Option<Self> {
        let (mut members, mut deserializer) = (Self::default(), serde_json::Deserializer::from_slice(json));
        Collect(&mut members, true).deserialize(&mut deserializer).ok()?;
        deserializer.end().ok()?;
        Some(members)
    }

    fn key_of_resource(&self) -> Option<Cow<'a, str>> {
        unquote(self.id?)
    }

    /// The resource's own time, or 0.
    fn own_time(&self, object: Object) -> Millis {
        let parse = |text: Option<&str>| time::parse(&unquote(text?)?);
        let parsed = match object {
            Object::Events => parse(self.datetime),
            Object::Profiles => parse(self.updated),
            Object::Metrics => parse(self.updated).or_else(|| parse(self.created)),
        };
        parsed.map_or(0, |parsed| parsed.micros.div_euclid(1_000))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_failed(path: &Path, stage: Stage, error: &io::Error) -> SyncError {
    SyncError::new(ErrorCode::SourceReadFailed, stage, format!("`{}` cannot be read", path.display())).external(error)
}

fn vanished(path: &Path, partition: Partition, stage: Stage) -> SyncError {
    let summary = format!("`{}`, which is partition {partition}, is gone, compressed or not", path.display());
    SyncError::new(ErrorCode::FileShrunk, stage, summary)
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
