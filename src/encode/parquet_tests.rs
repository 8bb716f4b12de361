use super::*;
use std::path::PathBuf;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::model::RunId;

const SYNCED_AT: i64 = 1_800_000_000;

fn batch(table: Table) -> ParquetBatch {
    ParquetBatch::new(table, &RunStamp { run: RunId(Uuid::nil()), synced_at: Timestamp::from_second(SYNCED_AT).unwrap() })
}

fn row<'a>(table: Table, values: &'a [Value<'a>]) -> Row<'a> {
    Row { table, values, deleted: false, version: 5, partition: 3, offset: 9, timestamp: 1_788_529_135_123, original: None }
}

/// An event of a given id and properties.
fn event<'a>(id: &'a str, properties: &'a str) -> [Value<'a>; 12] {
    let mut values = [Value::Null; 12];
    values[0] = Value::Json(id);
    values[1] = Value::Micros(1_788_529_135_000_000);
    values[2] = Value::Text("SkDfHe");
    values[9] = Value::Json(properties);
    values
}

struct Written {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Written {
    fn open(&self) -> File {
        File::open(&self.path).unwrap()
    }

    fn rows(&self) -> Vec<serde_json::Map<String, Json>> {
        let mut all = Vec::new();
        rows(self.open(), &mut |row| {
            all.push(row);
            Ok(())
        })
        .unwrap();
        all
    }

    fn row_groups(&self) -> usize {
        SerializedFileReader::new(self.open()).unwrap().num_row_groups()
    }
}

fn write<'a>(table: Table, batches: impl IntoIterator<Item = &'a ParquetBatch>) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.parquet");
    let mut writer = ParquetWriter::new(table, HashingFile::create(&path).unwrap()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    let (bytes, _) = writer.finish().unwrap().finish().unwrap();
    assert_eq!(bytes, path.metadata().unwrap().len());
    Written { _folder: folder, path }
}

#[test]
fn an_event_is_read_back_as_it_was() {
    let mut batch = batch(Table::Event);
    batch.push(&row(Table::Event, &event("\"a\"", r#"{"sku":"D4","$value":3.10}"#)));
    let written = write(Table::Event, [&batch]);
    let checksum = batch.totals().checksum;
    let expected = json!({
        "id": "a", "datetime": "2026-09-04T13:38:55Z", "metric_id": "SkDfHe", "event_properties": {"sku": "D4", "$value": 3.10},
        "_deleted": false, "_version": 5, "_partition": 3, "_offset": 9, "_timestamp": "2026-09-04T13:38:55.123000Z", "_checksum": checksum,
        "_run_id": "00000000-0000-0000-0000-000000000000", "_synced_at": "2027-01-15T08:00:00Z",
    });
    assert_eq!(written.rows(), [expected.as_object().unwrap().clone()]);
    assert_eq!(recount(written.open(), Table::Event).unwrap(), batch.totals());
}

#[test]
fn text_columns_hold_plain_text_and_json_columns_the_stream_s_bytes() {
    let mut batch = batch(Table::Event);
    let properties = r#"{ "n":123456789012345678901234567890.000000000000000000001,"e":"\u00e9\ud83d\ude00\u0000","d":1,"d":2}"#;
    let mut values = event(r#""a\"\\\n\u00e9\ud83d\ude00""#, properties);
    values[3] = Value::Json(r#""😀\u0000z""#);
    values[4] = Value::Text("x\0y \u{feff}\"");
    values[5] = Value::Json("\"\"");
    values[6] = Value::Json("17.50");
    values[7] = Value::Json(r#""half \ud83d""#);
    values[8] = Value::Json("null");
    values[10] = Value::Text("a \"text\"");
    values[11] = Value::Json("[]");
    batch.push(&Row { original: Some("{\"type\":\"event\"}\u{1f600}"), ..row(Table::Event, &values) });
    let written = write(Table::Event, [&batch]);

    let reader = SerializedFileReader::new(written.open()).unwrap();
    let mut texts = Vec::new();
    each_row(&reader, &mut |_, cells| {
        texts.extend(cells.iter().map(|cell| match cell {
            Cell::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
            _ => None,
        }));
        Ok(())
    })
    .unwrap();
    let text = |column: &str| texts[Table::Event.all_columns().position(|known| known.name == column).unwrap()].as_deref();
    assert_eq!(text("id"), Some("a\"\\\né😀"));
    assert_eq!(text("metric_name"), Some("😀\0z"));
    assert_eq!(text("integration_id"), Some("x\0y \u{feff}\""));
    assert_eq!(text("integration_key"), Some(""));
    assert_eq!(text("integration_name"), Some("17.50"));
    assert_eq!(text("profile_id"), Some(r#""half \ud83d""#), "what Unicode cannot hold stays JSON");
    assert_eq!(text("uuid"), None);
    assert_eq!(text("event_properties"), Some(properties));
    assert_eq!(text("attributes"), Some(r#""a \"text\"""#));
    assert_eq!(text("relationships"), Some("[]"));
    assert_eq!(text("_original"), Some("{\"type\":\"event\"}\u{1f600}"));
    assert_eq!(recount(written.open(), Table::Event).unwrap(), batch.totals());
}

#[test]
fn int_over_64_bit_survives() {
    let number = "123456789012345678901234567890";
    let mut batch = batch(Table::Event);
    let properties = format!("{{\"n\":{number}}}");
    batch.push(&row(Table::Event, &event("\"a\"", &properties)));
    let reader = SerializedFileReader::new(write(Table::Event, [&batch]).open()).unwrap();
    each_row(&reader, &mut |_, cells| {
        assert_eq!(cells[9], Cell::Text(properties.as_bytes()));
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_tombstone_has_its_id_and_its_meta_columns_only() {
    let mut batch = batch(Table::Profile);
    let mut values = [Value::Null; 18];
    values[0] = Value::Text("01M1");
    batch.push(&Row { deleted: true, ..row(Table::Profile, &values) });
    let rows = write(Table::Profile, [&batch]).rows();
    let names = rows[0].keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>();
    let expected = ["id", "_deleted", "_version", "_partition", "_offset", "_timestamp", "_checksum", "_run_id", "_synced_at"];
    assert_eq!(names, expected.into());
    assert_eq!(rows[0]["_deleted"], json!(true));
}

#[test]
fn every_table_is_read_back_even_with_fewer_or_more_values_than_columns() {
    for table in Table::ALL {
        let mut batch = batch(table);
        batch.push(&row(table, &[Value::Text("a")]));
        batch.push(&row(table, &[[Value::Text("b")].as_slice(), &[Value::Null; 30]].concat()));
        let written = write(table, [&batch]);
        assert_eq!(recount(written.open(), table).unwrap(), batch.totals(), "{table}");
        let key = table.columns()[0].name;
        assert_eq!(written.rows().iter().map(|row| row[key].clone()).collect::<Vec<_>>(), ["a", "b"], "{table}");
    }
}

#[test]
fn bounds_of_integers_and_times_are_read_back() {
    let mut batch = batch(Table::Event);
    for (micros, number) in [(i64::MIN, i64::MIN), (-1, -1), (0, 0), (i64::MAX, i64::MAX)] {
        let mut values = event("\"a\"", "{}");
        values[1] = Value::Micros(micros);
        batch.push(&Row { version: number, offset: number, timestamp: number, ..row(Table::Event, &values) });
    }
    let written = write(Table::Event, [&batch]);
    assert_eq!(recount(written.open(), Table::Event).unwrap(), batch.totals());
    let rows = written.rows();
    assert_eq!((&rows[0]["_version"], &rows[3]["_offset"]), (&json!(i64::MIN), &json!(i64::MAX)));
    assert_eq!(rows[1]["datetime"], json!("1969-12-31T23:59:59.999999Z"));
}

#[test]
fn row_groups_are_cut_by_size_and_keep_the_order_of_rows() {
    let mut batch = batch(Table::Event);
    let mut totals = TableTotals::default();
    let mut written_before = 0;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.parquet");
    let mut writer = ParquetWriter::new(Table::Event, HashingFile::create(&path).unwrap()).unwrap();
    let properties = format!("{{\"x\":\"{}\"}}", "y".repeat(5000));
    let mut number = 0;
    for round in 0..18 {
        while batch.bytes() < super::super::BATCH_BYTES {
            let id = format!("\"{number}\"");
            let mut values = event(&id, if number % 3 == 0 { "{}" } else { &properties });
            if number % 7 == 0 {
                values[2] = Value::Null;
            }
            batch.push(&row(Table::Event, &values));
            number += 1;
        }
        writer.write(&batch).unwrap();
        totals += batch.totals();
        batch.clear();
        assert_eq!(batch.totals(), TableTotals::default());
        assert_eq!(writer.written() > written_before, round % 8 == 7 || round == 0, "round {round}");
        written_before = writer.written();
    }
    writer.finish().unwrap().finish().unwrap();
    let written = Written { _folder: folder, path };
    assert_eq!(written.row_groups(), 3);
    assert_eq!(recount(written.open(), Table::Event).unwrap(), totals);
    let mut expected = 0;
    rows(written.open(), &mut |row| {
        assert_eq!(row["id"], json!(expected.to_string()));
        assert_eq!(row.contains_key("metric_id"), expected % 7 != 0);
        assert_eq!(row["event_properties"] == json!({}), expected % 3 == 0);
        expected += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(expected, number);
}

#[test]
fn a_file_without_rows_is_a_file() {
    let empty = batch(Table::Event);
    for batches in [vec![], vec![&empty]] {
        let written = write(Table::Event, batches);
        assert_eq!(recount(written.open(), Table::Event).unwrap(), TableTotals::default());
        assert_eq!(written.rows(), []);
    }
}

#[test]
fn equal_rows_make_equal_bytes_whatever_the_batch_held_before() {
    let mut used = batch(Table::Event);
    used.push(&row(Table::Event, &event("\"before\"", "[1,2,3]")));
    used.clear();
    let mut fresh = batch(Table::Event);
    for batch in [&mut used, &mut fresh] {
        batch.push(&row(Table::Event, &event("\"a\"", "{}")));
    }
    let read = |batch| std::fs::read(write(Table::Event, [batch]).path).unwrap();
    assert!(read(&used) == read(&fresh));
}

#[test]
fn an_altered_value_is_noticed() {
    fn column<'a>(batch: &'a mut ParquetBatch, name: &str) -> &'a mut ColumnBuffer {
        batch.rows.columns.iter_mut().find(|buffer| buffer.column.name == name).unwrap()
    }
    fn integer(batch: &mut ParquetBatch, name: &str) {
        match &mut column(batch, name).values {
            Values::Integers(integers) => integers[1] += 1,
            _ => unreachable!(),
        }
    }
    type Alter = fn(&mut ParquetBatch);
    let alterations: [(&str, Alter); 7] = [
        ("one byte of JSON", |batch| match &mut column(batch, "event_properties").values {
            Values::Text { bytes, .. } => *bytes.last_mut().unwrap() ^= 1,
            _ => unreachable!(),
        }),
        ("a byte that moved to the next row", |batch| match &mut column(batch, "event_properties").values {
            Values::Text { ends, .. } => ends[1] -= 1,
            _ => unreachable!(),
        }),
        ("a value that became NULL", |batch| {
            let datetime = column(batch, "datetime");
            datetime.levels.as_mut().unwrap()[1] = 0;
            match &mut datetime.values {
                Values::Integers(integers) => integers.truncate(2),
                _ => unreachable!(),
            }
        }),
        ("a boolean", |batch| match &mut column(batch, "_deleted").values {
            Values::Booleans(booleans) => booleans[1] = true,
            _ => unreachable!(),
        }),
        ("a timestamp", |batch| integer(batch, "datetime")),
        ("an offset", |batch| integer(batch, "_offset")),
        ("the checksum", |batch| integer(batch, "_checksum")),
    ];
    for (what, alter) in alterations {
        let mut batch = batch(Table::Event);
        for id in ["\"a\"", "\"b\"", "\"c\""] {
            batch.push(&row(Table::Event, &event(id, id)));
        }
        assert!(recount(write(Table::Event, [&batch]).open(), Table::Event).is_ok());
        alter(&mut batch);
        let error = recount(write(Table::Event, [&batch]).open(), Table::Event).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}");
        let number = if what == "one byte of JSON" { 3 } else { 2 };
        assert!(error.to_string().starts_with(&format!("row {number}: ")), "{what}: {error}");
    }
}

#[test]
fn a_file_of_another_table_or_of_none_is_refused() {
    let mut batch = batch(Table::Event);
    batch.push(&row(Table::Event, &event("\"a\"", "{}")));
    let written = write(Table::Event, [&batch]);
    assert_eq!(recount(written.open(), Table::Profile).unwrap_err().kind(), io::ErrorKind::InvalidData);
    let mut writer = ParquetWriter::new(Table::Profile, HashingFile::create(&written.path.with_extension("other")).unwrap()).unwrap();
    assert!(writer.write(&batch).is_err());

    let bytes = std::fs::read(&written.path).unwrap();
    for content in [&[][..], b"PAR1", &bytes[..bytes.len() - 1], &bytes[..bytes.len() / 2], &bytes[1..]] {
        std::fs::write(&written.path, content).unwrap();
        assert_eq!(recount(written.open(), Table::Event).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(rows(written.open(), &mut |_| Ok(())).is_err());
    }
}

#[test]
fn an_error_of_the_caller_comes_back_as_it_is() {
    let mut batch = batch(Table::Event);
    batch.push(&row(Table::Event, &event("\"a\"", "{}")));
    let error = rows(write(Table::Event, [&batch]).open(), &mut |_| Err(io::Error::from(io::ErrorKind::StorageFull))).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported_as_one() {
    let mut writer = ParquetWriter::new(Table::Event, HashingFile::create("/dev/full".as_ref()).unwrap()).unwrap();
    let mut batch = batch(Table::Event);
    let mut noise = 1u64;
    while batch.bytes() < ROW_GROUP_BYTES {
        let mut properties = String::from("\"");
        for _ in 0..64 {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            properties += &format!("{noise:016x}");
        }
        properties.push('"');
        batch.push(&row(Table::Event, &event("\"a\"", &properties)));
    }
    assert_eq!(writer.write(&batch).unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
#[should_panic = "the column `datetime` holds values of type Timestamp"]
fn a_value_of_another_type_is_never_written() {
    batch(Table::Event).push(&row(Table::Event, &[Value::Text("a"), Value::Text("2026-09-04")]));
}

#[test]
#[should_panic = "the column `id` is never NULL"]
fn a_row_without_id_is_never_written() {
    batch(Table::Event).push(&row(Table::Event, &[]));
}

#[test]
fn no_row_s_content_is_in_the_debug_form() {
    let mut batch = batch(Table::Event);
    batch.push(&row(Table::Event, &event("\"secret\"", "{}")));
    assert!(!format!("{batch:?} {batch:#?}").contains("secret"));
}

#[test]
fn both_formats_read_back_the_same() {
    let mut parquet = batch(Table::Profile);
    let mut ndjson = super::super::ndjson::NdjsonBatch::new(
        Table::Profile,
        &RunStamp { run: RunId(Uuid::nil()), synced_at: Timestamp::from_second(SYNCED_AT).unwrap() },
    );
    let mut values = [Value::Null; 18];
    values[0] = Value::Json("\"01M1\"");
    values[1] = Value::Json(r#""a\u0000@\ud83d\ude00""#);
    values[9] = Value::Micros(1);
    values[12] = Value::Json(r#"{"city":"Tōkyō","zip":[1,2.5,null]}"#);
    let row = Row { original: Some("{\"x\":\"\\n\"}"), ..row(Table::Profile, &values) };
    parquet.push(&row);
    ndjson.push(&row);
    let mut from_ndjson = Vec::new();
    super::super::ndjson::rows(ndjson.lines(), &mut |row| {
        from_ndjson.push(row);
        Ok(())
    })
    .unwrap();
    let mut from_parquet = write(Table::Profile, [&parquet]).rows();
    // The checksum is of the encoded form, which differs.
    assert!(from_ndjson[0].remove("_checksum").is_some() && from_parquet[0].remove("_checksum").is_some());
    assert_eq!(from_parquet, from_ndjson);
}

fn any_text() -> impl Strategy<Value = String> {
    "\\PC*|[\\x00-\\x7f]*"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_row_is_read_back(ids in prop::collection::vec((any_text(), prop::option::of(any_text()), prop::option::of(any::<i64>())), 0..20)) {
        let mut batch = batch(Table::Metric);
        for (id, name, created) in &ids {
            let mut values = [Value::Null; 9];
            values[0] = Value::Text(id);
            values[1] = name.as_deref().map_or(Value::Null, Value::Text);
            values[6] = created.map_or(Value::Null, Value::Micros);
            batch.push(&row(Table::Metric, &values));
        }
        let written = write(Table::Metric, [&batch]);
        prop_assert_eq!(recount(written.open(), Table::Metric).unwrap(), batch.totals());
        for (read, (id, name, created)) in written.rows().iter().zip(&ids) {
            prop_assert_eq!(&read["id"], id);
            prop_assert_eq!(read.get("name").and_then(Json::as_str), name.as_deref());
            prop_assert_eq!(read.contains_key("created"), created.is_some());
        }
    }
}
