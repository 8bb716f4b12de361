use super::*;

fn values(object: Object, text: &str) -> Vec<(&'static str, String)> {
    let mut parser = Parser::new(object);
    let resource = parser.parse(text.as_bytes()).unwrap();
    let mut values = [Value::Null; MAX_COLUMNS];
    resource.fill(&mut values).unwrap();
    let named = object.table().columns().iter().zip(values).filter(|(_, value)| *value != Value::Null);
    named
        .map(|(column, value)| match value {
            Value::Json(text) | Value::Text(text) => (column.name, text.to_owned()),
            Value::Micros(micros) => (column.name, micros.to_string()),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn reason(object: Object, value: &[u8]) -> RejectReason {
    Parser::new(object).parse(value).map(|resource| resource.id.into_owned()).unwrap_err().reason
}

const EVENT: &str = r#"{"type":"event","id":"7qWkC6JPz7g","attributes":{"timestamp":1788529135,"datetime":"2026-09-04T13:38:55+00:00","event_properties":{"sku":"D4","$value":3.10},"uuid":"f920"},"relationships":{"profile":{"data":{"type":"profile","id":"01M1"},"links":{}},"metric":{"data":{"type":"metric","id":"SkDfHe"}}},"links":{"self":"x"}}"#;

#[test]
fn an_event_becomes_its_columns_and_nothing_is_lost() {
    assert_eq!(
        values(Object::Events, EVENT),
        [
            ("id", r#""7qWkC6JPz7g""#.to_owned()),
            ("datetime", "1788529135000000".into()),
            ("metric_id", "SkDfHe".into()),
            ("profile_id", "01M1".into()),
            ("uuid", r#""f920""#.into()),
            ("event_properties", r#"{"sku":"D4","$value":3.10}"#.into()),
            ("attributes", r#"{"timestamp":1788529135,"_resource":{"links":{"self":"x"}}}"#.into()),
            (
                "relationships",
                r#"{"profile":{"data":{"type":"profile","id":"01M1"},"links":{}},"metric":{"data":{"type":"metric","id":"SkDfHe"}}}"#
                    .into()
            ),
        ]
    );
}

#[test]
fn int_over_64_bit_survives() {
    let number = "123456789012345678901234567890.000000000000000000001";
    let text = format!(r#"{{"type":"event","id":"a","attributes":{{"event_properties":{{"n":{number}}},"other":{number}}}}}"#);
    let values = values(Object::Events, &text);
    assert!(values.contains(&("event_properties", format!(r#"{{"n":{number}}}"#))));
    assert!(values.contains(&("attributes", format!(r#"{{"other":{number}}}"#))));
}

#[test]
fn line_breaks_between_tokens_do_not_break_the_line() {
    let values =
        values(Object::Events, "{\n \"type\":\"event\",\r\n\"id\":\"a\",\"attributes\":{\"event_properties\":{\n\"a\":\"b\\n\"}}}");
    assert!(values.contains(&("event_properties", r#"{ "a":"b\n"}"#.into())), "{values:?}");
}

#[test]
fn empty_objects_may_be_lists() {
    let text = r#"{"type":"event","id":"a","attributes":[],"relationships":[],"links":[]}"#;
    assert_eq!(values(Object::Events, text)[0].1, r#""a""#);
    let text =
        r#"{"type":"event","id":"a","attributes":{"event_properties":[]},"relationships":{"metric":[],"profile":{"data":{"id":"p"}}}}"#;
    let values = values(Object::Events, text);
    assert!(values.contains(&("event_properties", "[]".into())) && values.contains(&("profile_id", "p".into())), "{values:?}");
}

#[test]
fn escapes_in_names_and_ids_are_kept() {
    let text = r#"{"type":"event","id":"a\u0041\"","attributes":{"x\"y":1,"datetime":null}}"#;
    let mut parser = Parser::new(Object::Events);
    let resource = parser.parse(text.as_bytes()).unwrap();
    assert_eq!(resource.id, "aA\"");
    assert_eq!(resource.own_time(), Ok(None));
    assert!(values(Object::Events, text).contains(&("attributes", r#"{"x\"y":1}"#.into())));
}

#[test]
fn a_profile_with_a_number_for_a_text_keeps_it() {
    let text = r#"{"type":"profile","id":"p","attributes":{"external_id":42,"email":"a@b.c","updated":"2026-09-04T13:39:37.1310449Z","location":null}}"#;
    let values = values(Object::Profiles, text);
    assert!(values.contains(&("external_id", "42".into())) && values.contains(&("email", r#""a@b.c""#.into())), "{values:?}");
    let mut parser = Parser::new(Object::Profiles);
    let mut row = [Value::Null; MAX_COLUMNS];
    assert!(parser.parse(text.as_bytes()).unwrap().fill(&mut row).unwrap(), "nanoseconds do not fit");
}

#[test]
fn what_is_no_resource_is_told_apart() {
    for (value, expected) in [
        (&b"\xff{}"[..], RejectReason::NotUtf8),
        (b"", RejectReason::NotJson),
        (b"not json", RejectReason::NotJson),
        (b"{\"type\":\"event\"", RejectReason::NotJson),
        (b"{\"type\":\"event\",\"id\":\"a\"} x", RejectReason::NotJson),
        (b"[1]", RejectReason::NotAResource),
        (b"{}", RejectReason::NotAResource),
        (b"{\"type\":\"profile\",\"id\":\"a\"}", RejectReason::WrongType),
        (b"{\"type\":\"event\"}", RejectReason::MissingId),
        (b"{\"type\":\"event\",\"id\":7}", RejectReason::MissingId),
        (b"{\"type\":\"event\",\"id\":\"\"}", RejectReason::MissingId),
        (b"{\"type\":\"event\",\"id\":\"a\",\"attributes\":[1]}", RejectReason::NotAResource),
    ] {
        assert_eq!(reason(Object::Events, value), expected, "{}", String::from_utf8_lossy(value));
    }
    let mut parser = Parser::new(Object::Events);
    let resource = parser.parse(br#"{"type":"event","id":"a","attributes":{"datetime":"soon"}}"#).unwrap();
    assert_eq!(resource.own_time().unwrap_err().reason, RejectReason::BadTime);
}

#[test]
fn half_of_a_surrogate_pair_is_replaced_and_the_original_kept() {
    let text = r#"{"type":"event","id":"a","attributes":{"event_properties":{"cut":"x\ud83d","whole":"\ud83d\ude00","text":"\\ud83d","low":"\uDE00"}}}"#;
    let mut parser = Parser::new(Object::Events);
    let resource = parser.parse(text.as_bytes()).unwrap();
    assert!(resource.repaired);
    assert_eq!(resource.original, text);
    let expected = r#"{"cut":"x\ufffd","whole":"\ud83d\ude00","text":"\\ud83d","low":"\ufffd"}"#;
    assert!(values(Object::Events, text).contains(&("event_properties", expected.into())), "{:?}", values(Object::Events, text));
    assert!(!Parser::new(Object::Events).parse(EVENT.as_bytes()).unwrap().repaired);
}
