use std::os::unix::fs::FileExt;

use super::*;

/// A folder of streams and a source that reads it.
struct Fixture {
    directory: tempfile::TempDir,
    source: FolderSource,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    partition: Partition,
    offset: Offset,
    timestamp: Millis,
    key: Option<String>,
    value: Option<String>,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("streams/events")).unwrap();
        let source = Self::source_in(directory.path());
        Self { directory, source }
    }

    fn source_in(directory: &Path) -> FolderSource {
        FolderSource::new(directory.join("streams"), directory.join("partitions.json"))
    }

    fn restart(&mut self) {
        self.source = Self::source_in(self.directory.path());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("streams/events").join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn append(&self, name: &str, text: &str) {
        File::options().append(true).open(self.path(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn bounds(&self) -> Result<Bounds, SyncError> {
        self.source.bounds(Object::Events)
    }

    fn next(&self) -> Vec<(Partition, Offset)> {
        self.bounds().unwrap().next.into_iter().collect()
    }

    fn read(&self, ranges: &[(Partition, Offset, Offset)]) -> Result<Vec<Seen>, SyncError> {
        read(&self.source, Object::Events, ranges)
    }

    fn offsets(&self, partition: Partition, start: Offset, end: Offset) -> Vec<Offset> {
        self.read(&[(partition, start, end)]).unwrap().iter().map(|record| record.offset).collect()
    }
}

fn read(source: &FolderSource, object: Object, ranges: &[(Partition, Offset, Offset)]) -> Result<Vec<Seen>, SyncError> {
    let slice = Slice::new(ranges.iter().map(|(partition, start, end)| (*partition, Range { start: *start, end: *end })));
    let mut seen = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let end = source.read(object, &slice, &CancellationToken::new(), &mut |record| {
        let (key, value) = (record.key.map(text), record.value.map(text));
        seen.push(Seen { partition: record.partition, offset: record.offset, timestamp: record.timestamp, key, value });
        Ok(())
    })?;
    assert_eq!(end, ReadEnd::Complete);
    Ok(seen)
}

fn event(id: impl std::fmt::Display) -> String {
    format!(r#"{{"type":"event","id":"{id}","attributes":{{"datetime":"1970-01-01 00:00:02.5+00:00"}}}}"#)
}

fn lines(ids: std::ops::Range<i64>) -> String {
    ids.map(|id| event(id) + "\n").collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(text: &str) -> Vec<u8> {
    zstd::encode_all(text.as_bytes(), 1).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, SyncError>, naming: &str) -> ErrorCode {
    let error = result.unwrap_err();
    assert!(error.summary.contains(naming), "`{naming}` is not named: {}", error.summary);
    error.code
}

#[test]
fn plain_gzip_and_zstandard_read_alike() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", lines(0..3));
    fixture.write("b.ndjson.gz", gzip(&lines(0..3)));
    fixture.write("c.ndjson.zst", zstandard(&lines(0..3)));
    for (name, other) in [("notes.txt", "x\n"), (".d.ndjson", "x\n"), ("e.json", "x\n")] {
        fixture.write(name, other);
    }
    let bounds = fixture.bounds().unwrap();
    assert_eq!(bounds.lowest, BTreeMap::from([(0, 0), (1, 0), (2, 0)]));
    assert_eq!(bounds.next, BTreeMap::from([(0, 3), (1, 3), (2, 3)]));
    assert_eq!(bounds.topic_id, None);
    let seen = fixture.read(&[(0, 0, 3), (1, 0, 3), (2, 0, 3)]).unwrap();
    let expected: Vec<Seen> = (0..3)
        .flat_map(|partition| (0..3).map(move |offset| (partition, offset)))
        .map(|(partition, offset)| Seen { partition, offset, timestamp: 2_500, key: Some(offset.to_string()), value: Some(event(offset)) })
        .collect();
    assert_eq!(seen, expected);
    assert_eq!(fixture.source.offsets_since(Object::Events, 2_000, &bounds).unwrap(), BTreeMap::from([(0, 0), (1, 0), (2, 0)]));
    assert_eq!(fixture.source.deletion_retention(Object::Events).unwrap(), None);
}

#[test]
fn several_frames_or_members_are_one_file() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson.gz", [gzip(&lines(0..2)), gzip(&lines(2..3))].concat());
    fixture.write("b.ndjson.zst", [zstandard(&lines(0..2)), zstandard(&lines(2..3))].concat());
    assert_eq!(fixture.next(), [(0, 3), (1, 3)]);
    assert_eq!(fixture.offsets(0, 1, 3), [1, 2]);
    assert_eq!(fixture.offsets(1, 1, 3), [1, 2]);
}

#[test]
fn an_envelope_brings_its_own_key_and_time_and_deletes() {
    let fixture = Fixture::new();
    let resource = r#"{ "type":"event", "id":"e1","attributes":{"datetime":"1970-01-01T00:00:01Z"} }"#;
    let cases = [
        (format!(r#"{{"key":"k","value":{resource},"timestamp":7}}"#), Some("k"), Some(resource), 7),
        (format!(r#" {{"timestamp":-7,"value": {resource} ,"key":"\u006b"}}"#), Some("k"), Some(resource), -7),
        (format!(r#"{{"value":{resource}}}"#), Some("e1"), Some(resource), 1_000),
        (format!(r#"{{"key":null,"value":{resource},"timestamp":null,"headers":[]}}"#), Some("e1"), Some(resource), 1_000),
        (r#"{"key":"k","value":null,"timestamp":7}"#.to_owned(), Some("k"), None, 7),
        (r#"{"key":"k","value":null}"#.to_owned(), Some("k"), None, 0),
        (r#"{"key":"k","value":5,"timestamp":7}"#.to_owned(), Some("k"), Some("5"), 7),
        (r#"{"value":[]}"#.to_owned(), None, Some("[]"), 0),
    ];
    fixture.write("a.ndjson", cases.iter().map(|(line, ..)| format!("{line}\r\n")).collect::<String>());
    assert_eq!(fixture.next(), [(0, 8)]);
    let seen = fixture.read(&[(0, 0, 8)]).unwrap();
    assert_eq!(seen.len(), cases.len());
    for (seen, (line, key, value, timestamp)) in seen.iter().zip(&cases) {
        assert_eq!((seen.key.as_deref(), seen.value.as_deref(), seen.timestamp), (*key, *value, *timestamp), "{line}");
    }
}

#[test]
fn what_has_a_type_is_no_envelope() {
    let fixture = Fixture::new();
    let line = r#"{"type":"event","id":"e","value":1,"attributes":{}}"#;
    fixture.write("a.ndjson", format!("{line}\n"));
    fixture.bounds().unwrap();
    let expected = Seen { partition: 0, offset: 0, timestamp: 0, key: Some("e".to_owned()), value: Some(line.to_owned()) };
    assert_eq!(fixture.read(&[(0, 0, 1)]).unwrap(), [expected]);
}

#[test]
fn each_stream_has_its_own_time() {
    let fixture = Fixture::new();
    let attributes = |text: &str| format!(r#"{{"type":"x","id":"1","attributes":{text}}}"#);
    let all = attributes(r#"{"datetime":"1970-01-01T00:00:01Z","updated":"1970-01-01T00:00:02Z","created":"1969-12-31T23:59:59.9999Z"}"#);
    let created = attributes(r#"{"created":"1969-12-31T23:59:59.9999Z"}"#);
    let broken = attributes(r#"{"datetime":"soon","updated":null,"created":[]}"#);
    let text = [all, created, broken, attributes("[]"), attributes("null")].map(|line| line + "\n").concat();
    for (object, expected) in
        [(Object::Events, [1_000, 0, 0, 0, 0]), (Object::Profiles, [2_000, 0, 0, 0, 0]), (Object::Metrics, [2_000, -1, 0, 0, 0])]
    {
        let folder = fixture.source.folder(object);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a.ndjson"), &text).unwrap();
        fixture.source.bounds(object).unwrap();
        let seen = read(&fixture.source, object, &[(0, 0, 5)]).unwrap();
        assert_eq!(seen.iter().map(|record| record.timestamp).collect::<Vec<_>>(), expected, "{object}");
        assert!(seen.iter().all(|record| record.key.as_deref() == Some("1")));
    }
}

#[test]
fn chunks_deliver_every_line_once_under_its_number() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", lines(0..10));
    fixture.write("b.ndjson.gz", gzip(&lines(0..10)));
    fixture.bounds().unwrap();
    for partition in [0, 1] {
        let chunks = [(0, 4), (4, 5), (5, 10)].map(|(start, end)| fixture.offsets(partition, start, end));
        assert_eq!(chunks.concat(), (0..10).collect::<Vec<_>>());
    }
}

#[test]
fn a_blank_line_is_a_hole() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", format!("\n{} \t\r\n{}\n", lines(0..1), lines(1..2)));
    assert_eq!(fixture.next(), [(0, 5)]);
    assert_eq!(fixture.offsets(0, 0, 5), [1, 3]);
}

#[test]
fn a_broken_line_is_delivered_as_it_stands() {
    let fixture = Fixture::new();
    let broken = [" {\"id\":", "5", "[null,\"1\"]", "{} {}", "{\"key\":5,\"value\":null}", "{\"value\":null,\"timestamp\":\"7\"}"];
    fixture.write("a.ndjson", broken.map(|line| format!("{line}\r\n")).concat() + &lines(6..7));
    fixture.write("b.ndjson", b"{\"id\":\"\xff\"}\n\xff\xfe\n");
    assert_eq!(fixture.next(), [(0, 7), (1, 2)]);
    let seen = fixture.read(&[(0, 0, 7), (1, 0, 2)]).unwrap();
    for (seen, line) in seen.iter().zip(broken) {
        assert_eq!((seen.key.as_deref(), seen.value.as_deref(), seen.timestamp), (None, Some(line), 0));
    }
    assert_eq!(seen[6].value, Some(event(6)));
    assert_eq!(seen.len(), 9, "the lines that are not UTF-8 came, too");
    assert!(seen[7..].iter().all(|record| record.key.is_none() && record.value.as_ref().unwrap().contains('\u{fffd}')));
}

#[test]
fn growth_between_reads_is_seen() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", lines(0..2));
    fixture.write("b.ndjson.gz", gzip(&lines(0..2)));
    fixture.write("c.ndjson.zst", "");
    fixture.write("d.ndjson.gz", "");
    assert_eq!(fixture.next(), [(0, 2), (1, 2), (2, 0), (3, 0)]);
    fixture.append("a.ndjson", &lines(2..5));
    fixture.write("b.ndjson.gz", gzip(&lines(0..4)));
    fixture.write("c.ndjson.zst", zstandard(&lines(0..1)));
    assert_eq!(fixture.next(), [(0, 5), (1, 4), (2, 1), (3, 0)]);
    assert_eq!(fixture.offsets(0, 2, 5), [2, 3, 4]);
    assert_eq!(fixture.offsets(1, 2, 4), [2, 3]);
}

#[test]
fn a_half_written_last_line_is_read_once_it_is_complete() {
    let fixture = Fixture::new();
    let (first, second) = (event(1), event(2));
    fixture.write("a.ndjson", lines(0..1));
    for (appended, expected) in
        [(&first[..9], 1), (&first[9..], 2), ("\r", 2), ("\n", 2), (&second[..20], 2), (&second[20..], 3), ("\n\n", 4)]
    {
        fixture.append("a.ndjson", appended);
        assert_eq!(fixture.next(), [(0, expected)], "after {appended:?}");
    }
    assert_eq!(fixture.offsets(0, 0, 4), [0, 1, 2]);
}

#[test]
fn a_half_written_line_is_not_read_even_when_asked_for() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", lines(0..1) + &event(1)[..9]);
    assert_eq!(fixture.next(), [(0, 1)]);
    assert_eq!(code(fixture.read(&[(0, 0, 2)]), "a.ndjson"), ErrorCode::FileShrunk);
}

#[test]
fn the_last_line_of_an_archive_needs_no_end() {
    let fixture = Fixture::new();
    let text = lines(0..2) + &event(2);
    fixture.write("a.ndjson", &text);
    fixture.write("b.ndjson.gz", gzip(&text));
    fixture.write("c.ndjson.zst", zstandard(&text));
    assert_eq!(fixture.next(), [(0, 3), (1, 3), (2, 3)]);
    for partition in 0..3 {
        let seen = fixture.read(&[(partition, 1, 3)]).unwrap();
        assert_eq!(seen[1].value, Some(event(2)));
    }
}

#[test]
fn a_number_without_a_line_end_may_go_on() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", "12");
    assert_eq!(fixture.next(), [(0, 0)]);
    fixture.append("a.ndjson", "3\n");
    assert_eq!(fixture.next(), [(0, 1)]);
    assert_eq!(fixture.read(&[(0, 0, 1)]).unwrap()[0].value.as_deref(), Some("123"));
}

#[test]
fn a_compressed_file_that_breaks_off_counts_as_far_as_it_goes() {
    // Wherever it breaks off: never an error, never a line less than before, and what counts can be read.
    for (name, whole) in [
        ("a.ndjson.gz", [gzip(&lines(0..200)), gzip(&lines(200..400))].concat()),
        ("a.ndjson.zst", [zstandard(&lines(0..200)), zstandard(&lines(200..400))].concat()),
    ] {
        let fixture = Fixture::new();
        let (mut before, mut partly) = (0, 0);
        for length in (0..whole.len()).step_by(7).chain([whole.len()]) {
            fixture.write(name, &whole[..length]);
            let next = fixture.next()[0].1;
            assert!(next >= before, "{name} at {length}: {next} after {before}");
            assert_eq!(fixture.offsets(0, 0, next), (0..next).collect::<Vec<_>>());
            partly += i64::from(next > 0 && next < 400);
            before = next;
        }
        assert_eq!(before, 400);
        assert!(partly > 3, "{name} was never read in part");
    }
}

#[test]
fn a_damaged_compressed_file_is_an_error() {
    let fixture = Fixture::new();
    for (name, mut bytes) in [("a.ndjson.gz", gzip(&lines(0..200))), ("a.ndjson.zst", zstandard(&lines(0..200)))] {
        let middle = bytes.len() / 2;
        bytes[middle..middle + 8].fill(0xff);
        fixture.write(name, bytes);
        assert_eq!(code(fixture.bounds(), name), ErrorCode::SourceReadFailed);
        fs::remove_file(fixture.path(name)).unwrap();
    }
}

#[test]
fn numbers_stay_when_a_file_sorts_in_between() {
    let mut fixture = Fixture::new();
    fixture.write("a.ndjson", lines(0..1));
    fixture.write("c.ndjson", lines(0..3));
    assert_eq!(fixture.next(), [(0, 1), (1, 3)]);
    fixture.write("b2.ndjson", lines(0..5));
    fixture.write("b1.ndjson", lines(0..4));
    assert_eq!(fixture.next(), [(0, 1), (1, 3), (2, 4), (3, 5)]);
    fixture.restart();
    assert_eq!(fixture.offsets(2, 2, 4), [2, 3], "without bounds before");
    fixture.write("0.ndjson", "");
    assert_eq!(fixture.next(), [(0, 1), (1, 3), (2, 4), (3, 5), (4, 0)]);
    let stored = fs::read_to_string(fixture.directory.path().join("partitions.json")).unwrap();
    let expected = r#"{"events":{"0.ndjson":4,"a.ndjson":0,"b1.ndjson":2,"b2.ndjson":3,"c.ndjson":1}}"#;
    assert_eq!(stored.split_whitespace().collect::<String>(), expected);
}

#[test]
fn streams_are_numbered_apart() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", lines(0..1));
    assert_eq!(fixture.next(), [(0, 1)]);
    let profiles = fixture.source.folder(Object::Profiles);
    fs::create_dir(&profiles).unwrap();
    fs::write(profiles.join("p.ndjson"), lines(0..2)).unwrap();
    assert_eq!(fixture.source.bounds(Object::Profiles).unwrap().next, BTreeMap::from([(0, 2)]));
    assert_eq!(fixture.next(), [(0, 1)]);
}

#[test]
fn numbers_given_at_the_same_time_are_the_same() {
    let fixture = Fixture::new();
    for name in 0..40 {
        fixture.write(&format!("{name}.ndjson"), lines(0..name));
    }
    let other = Fixture::source_in(fixture.directory.path());
    let (ours, theirs) = std::thread::scope(|scope| {
        let threads = [&fixture.source, &fixture.source, &other].map(|source| scope.spawn(|| source.bounds(Object::Events).unwrap()));
        let [one, two, three] = threads.map(|thread| thread.join().unwrap());
        assert_eq!(one, two);
        (one, three)
    });
    assert_eq!(ours, theirs);
    assert_eq!(ours.next.len(), 40);
}

#[test]
fn damaged_numbers_are_not_replaced() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", lines(0..1));
    fs::write(&fixture.source.partitions_file, "{").unwrap();
    assert_eq!(code(fixture.bounds(), "partitions.json"), ErrorCode::ConfigurationInvalid);
    assert_eq!(fs::read_to_string(&fixture.source.partitions_file).unwrap(), "{");
}

#[test]
fn a_rotated_and_compressed_file_stays_its_partition() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", lines(0..3));
    fixture.write("b.ndjson", lines(0..1));
    assert_eq!(fixture.next(), [(0, 3), (1, 1)]);
    fixture.write("a.ndjson.gz", gzip(&lines(0..3)));
    let both = fixture.bounds().unwrap_err();
    assert_eq!((both.code, both.retry), (ErrorCode::ConfigurationInvalid, RetryHint::Backoff));
    fs::remove_file(fixture.path("a.ndjson")).unwrap();
    assert_eq!(fixture.next(), [(0, 3), (1, 1)]);
    assert_eq!(fixture.offsets(0, 1, 3), [1, 2]);
}

#[test]
fn a_vanished_file_keeps_its_number() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", lines(0..1));
    fixture.write("b.ndjson", lines(0..2));
    fixture.bounds().unwrap();
    fs::rename(fixture.path("a.ndjson"), fixture.path("c.ndjson")).unwrap();
    assert_eq!(code(fixture.bounds(), "a.ndjson"), ErrorCode::FileShrunk);
    assert_eq!(code(fixture.read(&[(0, 0, 1)]), "a.ndjson"), ErrorCode::FileShrunk);
    assert_eq!(fixture.offsets(1, 0, 2), [0, 1], "the others can be read");
    fs::rename(fixture.path("c.ndjson"), fixture.path("a.ndjson")).unwrap();
    assert_eq!(fixture.next(), [(0, 1), (1, 2)]);
    assert_eq!(code(fixture.read(&[(2, 0, 1)]), "partition number 2"), ErrorCode::PartitionMissing);
}

#[test]
fn a_shrunk_file_is_named() {
    let fixture = Fixture::new();
    for (name, bytes) in [("a.ndjson", lines(0..5).into_bytes()), ("b.ndjson.gz", gzip(&lines(0..5)))] {
        fixture.write(name, bytes);
    }
    assert_eq!(fixture.next(), [(0, 5), (1, 5)]);
    fixture.write("a.ndjson", lines(0..3));
    fixture.write("b.ndjson.gz", gzip(&lines(0..3)));
    for (partition, name) in [(0, "a.ndjson"), (1, "b.ndjson.gz")] {
        assert_eq!(code(fixture.read(&[(partition, 2, 5)]), name), ErrorCode::FileShrunk);
        assert_eq!(code(fixture.read(&[(partition, 4, 5)]), name), ErrorCode::FileShrunk);
    }
    assert_eq!(fixture.next(), [(0, 3), (1, 3)]);
}

#[test]
fn missing_folders_are_told_apart() {
    let fixture = Fixture::new();
    assert_eq!(fixture.source.bounds(Object::Metrics).unwrap(), Bounds::default());
    fs::remove_dir_all(fixture.directory.path().join("streams")).unwrap();
    assert_eq!(code(fixture.bounds(), "streams"), ErrorCode::TopicNotFound);
}

/// Puts a blank where a line ends, which a second look at the file's beginning would notice.
fn join_first_lines(fixture: &Fixture, name: &str) {
    let file = File::options().write(true).open(fixture.path(name)).unwrap();
    file.write_all_at(b" ", event(0).len() as u64).unwrap();
}

#[test]
fn counting_goes_on_where_it_ended() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", lines(0..9));
    assert_eq!(fixture.next(), [(0, 9)]);
    join_first_lines(&fixture, "a.ndjson");
    fixture.append("a.ndjson", &lines(9..10));
    assert_eq!(fixture.next(), [(0, 10)]);
}

#[test]
fn a_slice_starts_in_the_middle_by_the_index() {
    let fixture = Fixture::new();
    let total = 2 * LINES_PER_MARK + 10;
    fixture.write("a.ndjson", lines(0..total));
    fixture.write("b.ndjson.zst", zstandard(&lines(0..total)));
    assert_eq!(fixture.next(), [(0, total), (1, total)]);
    join_first_lines(&fixture, "a.ndjson");
    for start in [LINES_PER_MARK, LINES_PER_MARK + 1, 2 * LINES_PER_MARK - 1, 2 * LINES_PER_MARK, total - 1] {
        for seen in fixture.read(&[(0, start, start + 1), (1, start, start + 1)]).unwrap() {
            assert_eq!((seen.offset, seen.key), (start, Some(start.to_string())), "partition {}", seen.partition);
        }
    }
    let before_the_first_mark = fixture.read(&[(0, 5, 6)]).unwrap();
    assert_eq!(before_the_first_mark[0].key.as_deref(), Some("6"), "read from the beginning");
}

#[test]
fn a_replaced_file_is_counted_from_its_beginning() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", lines(0..9));
    assert_eq!(fixture.next(), [(0, 9)]);
    fixture.write("new", "\n".repeat(5_000));
    fs::rename(fixture.path("new"), fixture.path("a.ndjson")).unwrap();
    assert_eq!(fixture.next(), [(0, 5_000)]);
}

#[test]
fn a_file_written_anew_in_place_is_counted_from_its_beginning() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", "\n\n\n{}\n");
    assert_eq!(fixture.next(), [(0, 4)]);
    fixture.write("a.ndjson", "{   }\n");
    let later = std::time::SystemTime::now() + Duration::from_secs(1);
    File::options().write(true).open(fixture.path("a.ndjson")).unwrap().set_modified(later).unwrap();
    assert_eq!(fixture.next(), [(0, 1)], "of the same size");
    fixture.write("a.ndjson", "{         }\n");
    assert_eq!(fixture.next(), [(0, 1)], "longer");
}

#[test]
fn a_read_stops_when_told_to() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", lines(0..5_000));
    fixture.write("b.ndjson", lines(0..1));
    fixture.bounds().unwrap();
    let slice = Slice::new([(0, Range { start: 500, end: 5_000 }), (1, Range { start: 0, end: 1 })]);
    let (stop, mut seen) = (CancellationToken::new(), 0);
    let end = fixture.source.read(Object::Events, &slice, &stop, &mut |record| {
        assert_eq!(record.partition, 0);
        seen += 1;
        stop.cancel();
        Ok(())
    });
    assert_eq!(end.unwrap(), ReadEnd::Stopped);
    assert!((1..=LINES_PER_STOP_CHECK).contains(&seen), "{seen} records");
}

#[test]
fn an_error_of_the_sink_ends_the_read() {
    let fixture = Fixture::new();
    fixture.write("a.ndjson", lines(0..5));
    fixture.bounds().unwrap();
    let slice = Slice::new([(0, Range { start: 0, end: 5 })]);
    let mut seen = 0;
    let end = fixture.source.read(Object::Events, &slice, &CancellationToken::new(), &mut |_| {
        seen += 1;
        if seen == 2 { Err(SyncError::internal(Stage::Stage, "full")) } else { Ok(()) }
    });
    assert_eq!((end.unwrap_err().summary.as_str(), seen), ("full", 2));
}
