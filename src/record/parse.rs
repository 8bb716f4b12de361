//! A Klaviyo resource, parsed just as far as the tables need.
//!
//! One pass over the JSON text finds the members that have a column of their own and remembers them
//! as slices of the text; members without a column are collected, untouched, in the `attributes`
//! column. Nothing is re-serialised, and nothing is allocated per record: the two buffers of a
//! [`Parser`] are reused.

use std::borrow::Cow;

use memchr::memchr2;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::model::row::{Value, unquote};
use crate::model::time;
use crate::model::{Object, Table};

/// Most columns that a table takes from its record.
pub const MAX_COLUMNS: usize = 18;

/// Why a record is put aside in `KLAVIYO_REJECTED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// The value is not UTF-8 text.
    NotUtf8,
    /// The value is not one JSON document.
    NotJson,
    /// The value is JSON, but no JSON:API resource.
    NotAResource,
    /// The resource is of another type than its stream.
    WrongType,
    /// The resource has no id.
    MissingId,
    /// A time cannot be read.
    BadTime,
    /// A deletion whose key does not tell what was deleted.
    DeletionWithoutKey,
    /// The event's metric is not known yet and a filter needs to know its integration. Replayed by
    /// itself once the metric is known; does not count as bad.
    UnknownMetric,
}

impl RejectReason {
    /// As stored in the `reason` column.
    pub const fn name(self) -> &'static str {
        match self {
            RejectReason::NotUtf8 => "not_utf8",
            RejectReason::NotJson => "not_json",
            RejectReason::NotAResource => "not_a_resource",
            RejectReason::WrongType => "wrong_type",
            RejectReason::MissingId => "missing_id",
            RejectReason::BadTime => "bad_time",
            RejectReason::DeletionWithoutKey => "deletion_without_key",
            RejectReason::UnknownMetric => PENDING_UNKNOWN_METRIC,
        }
    }
}

/// The member of the `attributes` column that holds what a resource has beside `type`, `id`,
/// `attributes` and `relationships`, such as `links`, so that nothing is lost.
const OUTSIDE: &str = "_resource";

/// The reason of records that wait for their metric.
pub const PENDING_UNKNOWN_METRIC: &str = "pending_unknown_metric";

/// A record that is not what its stream promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Why.
    pub reason: RejectReason,
    /// The place, or what was found instead.
    pub detail: String,
}

impl Malformed {
    fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// The members that have a column of their own, by object: `(member of attributes, column)`.
const fn known_attributes(object: Object) -> &'static [(&'static str, usize)] {
    match object {
        Object::Events => &[("datetime", 1), ("uuid", 8), ("event_properties", 9)],
        Object::Profiles => &[
            ("email", 1),
            ("phone_number", 2),
            ("external_id", 3),
            ("first_name", 4),
            ("last_name", 5),
            ("organization", 6),
            ("title", 7),
            ("locale", 8),
            ("created", 9),
            ("updated", 10),
            ("last_event_date", 11),
            ("location", 12),
            ("properties", 13),
            ("subscriptions", 14),
            ("predictive_analytics", 15),
        ],
        Object::Metrics => &[("name", 1), ("created", 6), ("updated", 7)],
    }
}

/// A parsed resource: slices of the record's text.
#[derive(Debug)]
pub struct Resource<'a> {
    object: Object,
    /// The whole resource as it stands in the stream.
    pub original: &'a str,
    /// A half of a surrogate pair had to be replaced: the columns do not hold the resource exactly.
    pub repaired: bool,
    /// The id, unescaped.
    pub id: Cow<'a, str>,
    id_text: &'a str,
    members: [Option<&'a str>; MAX_COLUMNS],
    relationships: Option<&'a str>,
    integration: Option<&'a str>,
    /// `relationships.metric.data.id` of an event.
    pub metric_id: Option<Cow<'a, str>>,
    /// `relationships.profile.data.id` of an event.
    pub profile_id: Option<Cow<'a, str>>,
    rest: &'a str,
}

/// Parses the records of one stream. Holds the buffers that are reused from record to record.
#[derive(Debug)]
pub struct Parser {
    object: Object,
    /// The record without line breaks, when it had some.
    flat: Vec<u8>,
    /// Attributes without a column of their own.
    rest: Vec<u8>,
    /// Members beside `type`, `id`, `attributes` and `relationships`, such as `links`.
    outside: Vec<u8>,
}

impl Parser {
    /// A parser for the stream of an object.
    pub fn new(object: Object) -> Self {
        Self { object, flat: Vec::new(), rest: Vec::new(), outside: Vec::new() }
    }

    /// Parses one value.
    pub fn parse<'a>(&'a mut self, value: &'a [u8]) -> Result<Resource<'a>, Malformed> {
        let Parser { object, flat, rest, outside } = self;
        let original = utf8(value)?;
        let has_breaks = memchr2(b'\n', b'\r', value).is_some();
        let has_halves = has_half_pairs(value);
        let text = if has_breaks || has_halves {
            flat.clear();
            flat.extend_from_slice(value);
            if has_breaks {
                // Between tokens a line break is white space and means the same as a blank; inside strings
                // JSON does not allow one. So blanks keep the text equal as JSON and let it stand on one line.
                flat.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
            }
            if has_halves {
                replace_half_pairs(flat);
            }
            utf8(flat)?
        } else {
            original
        };
        for members in [&mut *rest, &mut *outside] {
            members.clear();
            members.push(b'{');
        }
        let mut found = Found::default();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        ResourceSeed { object: *object, found: &mut found, rest, outside }
            .deserialize(&mut deserializer)
            .and_then(|()| deserializer.end())
            .map_err(|error| {
                let reason = if error.is_data() { RejectReason::NotAResource } else { RejectReason::NotJson };
                Malformed::new(reason, error.to_string())
            })?;
        if outside.len() > 1 {
            outside.push(b'}');
            let outside = std::str::from_utf8(outside).map_err(|_| Malformed::new(RejectReason::NotUtf8, "invalid UTF-8"))?;
            push_member(rest, &Cow::Borrowed(OUTSIDE), outside);
        }
        rest.push(b'}');
        let rest = std::str::from_utf8(rest).map_err(|_| Malformed::new(RejectReason::NotUtf8, "invalid UTF-8"))?;
        let mut resource = found.into_resource(*object, original, rest)?;
        resource.repaired = has_halves;
        Ok(resource)
    }
}

fn utf8(value: &[u8]) -> Result<&str, Malformed> {
    simdutf8::basic::from_utf8(value).map_err(|_| {
        let at = std::str::from_utf8(value).err().map_or(0, |error| error.valid_up_to());
        Malformed::new(RejectReason::NotUtf8, format!("invalid UTF-8 at byte {at}"))
    })
}

/// The escapes such as `\ud83d` that are one half of a surrogate pair without the other, by place: what is left
/// of an emoji that somebody cut in two. JSON's grammar allows them, Unicode does not, and one of them
/// makes readers such as DuckDB refuse the whole table.
fn half_pairs(text: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let unit = |at: usize| -> Option<u16> {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at += memchr::memchr(b'\\', text.get(at..)?)?;
            let start = at;
            match unit(start) {
                Some(0xd800..0xdc00) if matches!(unit(start + 6), Some(0xdc00..0xe000)) => at += 12,
                Some(0xd800..0xe000) => {
                    at += 6;
                    return Some(start);
                }
                // An escaped backslash is no beginning of an escape.
                _ => at += 2,
            }
        }
    })
}

fn has_half_pairs(text: &[u8]) -> bool {
    half_pairs(text).next().is_some()
}

/// Puts the replacement character in their place; it is as long.
fn replace_half_pairs(text: &mut [u8]) {
    let places: Vec<usize> = half_pairs(text).collect();
    for at in places {
        text[at..at + 6].copy_from_slice(b"\\ufffd");
    }
}

#[derive(Default)]
struct Found<'a> {
    resource_type: Option<&'a str>,
    id: Option<&'a str>,
    members: [Option<&'a str>; MAX_COLUMNS],
    relationships: Option<&'a str>,
    integration: Option<&'a str>,
}

impl<'a> Found<'a> {
    fn into_resource(self, object: Object, original: &'a str, rest: &'a str) -> Result<Resource<'a>, Malformed> {
        let expected = object.resource_type();
        match self.resource_type.and_then(unquote) {
            Some(found) if found == expected => {}
            Some(found) => {
                let found: String = found.chars().take(100).collect();
                return Err(Malformed::new(RejectReason::WrongType, format!("type is `{found}`, not `{expected}`")));
            }
            None => return Err(Malformed::new(RejectReason::NotAResource, "the member `type` is missing")),
        }
        let id_text = self.id.ok_or_else(|| Malformed::new(RejectReason::MissingId, "the member `id` is missing"))?;
        let id = unquote(id_text)
            .filter(|id| !id.is_empty())
            .ok_or_else(|| Malformed::new(RejectReason::MissingId, "the member `id` is not a text"))?;
        let (metric_id, profile_id) = match (object, self.relationships) {
            (Object::Events, Some(relationships)) => related_ids(relationships),
            _ => (None, None),
        };
        Ok(Resource {
            object,
            original,
            repaired: false,
            id,
            id_text,
            members: self.members,
            relationships: self.relationships,
            integration: self.integration,
            metric_id,
            profile_id,
            rest,
        })
    }
}

impl<'a> Resource<'a> {
    /// The time by which the history window judges the record: an event's `datetime`, a profile's
    /// `updated`; in microseconds.
    pub fn own_time(&self) -> Result<Option<i64>, Malformed> {
        let column = match self.object {
            Object::Events => 1,
            Object::Profiles => 10,
            Object::Metrics => return Ok(None),
        };
        Ok(self.time(column)?.map(|parsed| parsed.micros))
    }

    /// Fills the values of the object's table and tells whether a column could not hold one exactly.
    /// What comes from the metric catalogue is the caller's to fill in.
    pub fn fill<'v>(&'v self, values: &mut [Value<'v>; MAX_COLUMNS]) -> Result<bool, Malformed> {
        let table: Table = self.object.table();
        let mut inexact = self.repaired;
        for (index, column) in table.columns().iter().enumerate() {
            use crate::model::table::ColumnType::{Json, Timestamp};
            values[index] = match (column.name, self.members[index]) {
                ("id", _) => Value::Json(self.id_text),
                ("attributes", _) if self.rest.len() > 2 => Value::Json(self.rest),
                ("relationships", _) => self.relationships.map_or(Value::Null, Value::Json),
                ("metric_id", _) => text_or_null(self.metric_id.as_deref()),
                ("profile_id", _) => text_or_null(self.profile_id.as_deref()),
                (_, None | Some("null")) => Value::Null,
                (_, Some(_)) if column.column_type == Timestamp => match self.time(index)? {
                    Some(parsed) => {
                        inexact |= parsed.lossy;
                        Value::Micros(parsed.micros)
                    }
                    None => Value::Null,
                },
                (_, Some(member)) if column.column_type == Json || member.starts_with('"') => Value::Json(member),
                // A number or an object where text is expected: its JSON is the text.
                (_, Some(member)) => Value::Text(member),
            };
        }
        Ok(inexact)
    }

    /// The `integration` member of a metric, as JSON text.
    pub fn integration(&self) -> Option<&'a str> {
        self.integration
    }

    fn time(&self, column: usize) -> Result<Option<time::Parsed>, Malformed> {
        let Some(text) = self.members[column].filter(|text| *text != "null") else { return Ok(None) };
        let parsed = unquote(text).and_then(|text| time::parse(&text));
        parsed.map(Some).ok_or_else(|| {
            let name = self.object.table().columns()[column].name;
            Malformed::new(RejectReason::BadTime, format!("`{name}` is not a time"))
        })
    }
}

fn text_or_null(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Null, Value::Text)
}

#[derive(Deserialize)]
struct Related<'a> {
    #[serde(borrow, default)]
    data: Option<RelatedData<'a>>,
}

impl<'a> Related<'a> {
    fn into_id(self) -> Option<Cow<'a, str>> {
        self.data.map(|data| data.id)
    }
}

#[derive(Deserialize)]
struct RelatedData<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Relationships<'a> {
    #[serde(borrow, default)]
    metric: Option<Related<'a>>,
    #[serde(borrow, default)]
    profile: Option<Related<'a>>,
}

type RelatedIds<'a> = (Option<Cow<'a, str>>, Option<Cow<'a, str>>);

fn related_ids(relationships: &str) -> RelatedIds<'_> {
    if let Ok(parsed) = serde_json::from_str::<Relationships<'_>>(relationships) {
        return (parsed.metric.and_then(Related::into_id), parsed.profile.and_then(Related::into_id));
    }
    // Odd shapes, such as `[]` for an empty object: look at each part by itself.
    let value: serde_json::Value = serde_json::from_str(relationships).unwrap_or_default();
    let id = |name: &str| value.get(name)?.get("data")?.get("id")?.as_str().map(|id| Cow::Owned(id.to_owned()));
    (id("metric"), id("profile"))
}

struct ResourceSeed<'f, 'a> {
    object: Object,
    found: &'f mut Found<'a>,
    rest: &'f mut Vec<u8>,
    outside: &'f mut Vec<u8>,
}

impl<'a> DeserializeSeed<'a> for ResourceSeed<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for ResourceSeed<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON:API resource object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            match &*name {
                "type" => self.found.resource_type = Some(map.next_value::<&RawValue>()?.get()),
                "id" => self.found.id = Some(map.next_value::<&RawValue>()?.get()),
                "relationships" => self.found.relationships = Some(map.next_value::<&RawValue>()?.get()),
                "attributes" => map.next_value_seed(AttributesSeed { object: self.object, found: self.found, rest: self.rest })?,
                _ => push_member(self.outside, &name, map.next_value::<&RawValue>()?.get()),
            }
        }
        Ok(())
    }
}

struct AttributesSeed<'f, 'a> {
    object: Object,
    found: &'f mut Found<'a>,
    rest: &'f mut Vec<u8>,
}

impl<'a> DeserializeSeed<'a> for AttributesSeed<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for AttributesSeed<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the object `attributes`")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        let known = known_attributes(self.object);
        while let Some(name) = map.next_key_seed(Name)? {
            let value = map.next_value::<&RawValue>()?.get();
            match known.iter().find(|(member, _)| *member == name) {
                Some((_, column)) => self.found.members[*column] = Some(value),
                None => {
                    if self.object == Object::Metrics && name == "integration" {
                        self.found.integration = Some(value);
                    }
                    push_member(self.rest, &name, value);
                }
            }
        }
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    /// Klaviyo writes an empty object as `[]` now and then (klaviyo.md C1).
    fn visit_seq<S: SeqAccess<'a>>(self, mut sequence: S) -> Result<(), S::Error> {
        match sequence.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(S::Error::custom("`attributes` is a list")),
        }
    }
}

/// Appends `"name":value` to the members of an object, the first brace being there already.
#[expect(clippy::ptr_arg, reason = "borrowed or owned tells whether the name needs escapes")]
fn push_member(into: &mut Vec<u8>, name: &Cow<'_, str>, value: &str) {
    if into.len() > 1 {
        into.push(b',');
    }
    match name {
        // Borrowed means that the name stands in the text without escapes, so it needs none here.
        Cow::Borrowed(name) => {
            into.push(b'"');
            into.extend_from_slice(name.as_bytes());
            into.push(b'"');
        }
        Cow::Owned(name) => into.extend_from_slice(serde_json::Value::from(name.as_str()).to_string().as_bytes()),
    }
    into.push(b':');
    into.extend_from_slice(value.as_bytes());
}

/// A member's name, borrowed where the text has no escapes.
struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Name {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, name: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
