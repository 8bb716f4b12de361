//! The two things that we need of librdkafka and that its Rust wrapper does not give: the offset at
//! which a partition ended (without it, a lagging replica looks like the end of the topic), and the id
//! of a topic. The only unsafe code of the crate.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{IsError, RDKafkaErrorCode};

use crate::model::record::Record;
use crate::model::{Offset, Partition};

/// What a poll brought.
#[derive(Debug)]
pub enum Polled<'e> {
    /// A record.
    Record(Record<'e>),
    /// The partition has nothing at or past this offset for now.
    End {
        /// The partition.
        partition: Partition,
        /// The next offset that would be fetched: past transaction markers and compacted records.
        offset: Offset,
    },
    /// The client reports a failure. Many of them pass by themselves.
    Error {
        /// librdkafka's code.
        code: RDKafkaErrorCode,
        /// librdkafka's words.
        reason: String,
    },
    /// Nothing came in time.
    Nothing,
}

/// The queue of a consumer that was given partitions by `assign`.
pub struct Events<'c, C: ConsumerContext> {
    queue: *mut c::rd_kafka_queue_t,
    consumer: &'c BaseConsumer<C>,
}

impl<'c, C: ConsumerContext> Events<'c, C> {
    /// The queue of a consumer; `None` when it was made without a group id.
    pub fn of(consumer: &'c BaseConsumer<C>) -> Option<Self> {
        // SAFETY: the native pointer is valid for the consumer's life, which the returned value borrows;
        // the call only adds a reference to the queue.
        let queue = unsafe { c::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        (!queue.is_null()).then_some(Self { queue, consumer })
    }

    /// The consumer.
    pub fn consumer(&self) -> &'c BaseConsumer<C> {
        self.consumer
    }

    /// Waits for the next event and hands it to `handle`, borrowed for the time of the call.
    pub fn poll<R>(&self, timeout: Duration, handle: impl FnOnce(Polled<'_>) -> R) -> R {
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `queue` is a live reference until drop.
        let event = Event(unsafe { c::rd_kafka_queue_poll(self.queue, timeout_ms) });
        handle(event.polled())
    }
}

impl<C: ConsumerContext> Drop for Events<'_, C> {
    fn drop(&mut self) {
        // SAFETY: gives back the reference taken in `of`, once.
        unsafe { c::rd_kafka_queue_destroy(self.queue) }
    }
}

/// An event, destroyed at the end of its scope. May be null.
struct Event(*mut c::rd_kafka_event_t);

impl Event {
    fn polled(&self) -> Polled<'_> {
        if self.0.is_null() {
            return Polled::Nothing;
        }
        // SAFETY: the event is not null and lives as long as `self`; librdkafka documents that everything
        // reached from an event (messages, their payloads, strings) lives until the event is destroyed,
        // which the returned borrow of `self` prevents.
        unsafe {
            match c::rd_kafka_event_type(self.0) {
                c::RD_KAFKA_EVENT_FETCH => {
                    let message = c::rd_kafka_event_message_next(self.0);
                    if message.is_null() { Polled::Nothing } else { record(message) }
                }
                c::RD_KAFKA_EVENT_ERROR => {
                    let code = c::rd_kafka_event_error(self.0);
                    if code == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF {
                        let place = c::rd_kafka_event_topic_partition(self.0);
                        if place.is_null() {
                            return Polled::Nothing;
                        }
                        let polled = Polled::End { partition: (*place).partition, offset: (*place).offset };
                        c::rd_kafka_topic_partition_destroy(place);
                        return polled;
                    }
                    let reason = c::rd_kafka_event_error_string(self.0);
                    let reason = if reason.is_null() { String::new() } else { CStr::from_ptr(reason).to_string_lossy().into_owned() };
                    Polled::Error { code: code.into(), reason }
                }
                _ => Polled::Nothing,
            }
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: owned by us, destroyed once.
            unsafe { c::rd_kafka_event_destroy(self.0) }
        }
    }
}

/// SAFETY: `message` must be valid for `'e`.
unsafe fn record<'e>(message: *const c::rd_kafka_message_t) -> Polled<'e> {
    // SAFETY: as promised by the caller; payload and key point to `len` and `key_len` bytes, or are null.
    unsafe {
        let code = (*message).err;
        if code.is_error() {
            let reason = c::rd_kafka_message_errstr(message);
            let reason = if reason.is_null() { String::new() } else { CStr::from_ptr(reason).to_string_lossy().into_owned() };
            return Polled::Error { code: code.into(), reason };
        }
        let bytes = |start: *mut std::ffi::c_void, length: usize| {
            (!start.is_null()).then(|| std::slice::from_raw_parts::<'e, u8>(start.cast(), length))
        };
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let timestamp = c::rd_kafka_message_timestamp(message, &mut kind);
        Polled::Record(Record {
            partition: (*message).partition,
            offset: (*message).offset,
            // Topics without timestamps (message format 0) answer -1.
            timestamp: timestamp.max(0),
            key: bytes((*message).key, (*message).key_len),
            value: bytes((*message).payload, (*message).len),
        })
    }
}

/// The topic's id as base64 text; `None` when the broker is too old to have one or refuses to tell.
pub fn topic_id<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, timeout: Duration) -> Option<String> {
    let name = CString::new(topic).ok()?;
    let client = consumer.client().native_ptr();
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: every object is created here, checked for null where librdkafka may return it, and
    // destroyed here once; the result is read before its event is destroyed.
    unsafe {
        let mut names = [name.as_ptr()];
        let topics = c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let options = c::rd_kafka_AdminOptions_new(client, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let mut message = [0; 256];
        c::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, message.as_mut_ptr(), message.len());
        let queue = c::rd_kafka_queue_new(client);
        c::rd_kafka_DescribeTopics(client, topics, options, queue);
        let event = Event(c::rd_kafka_queue_poll(queue, timeout_ms));
        let id = described_id(&event);
        drop(event);
        c::rd_kafka_queue_destroy(queue);
        c::rd_kafka_AdminOptions_destroy(options);
        c::rd_kafka_TopicCollection_destroy(topics);
        id
    }
}

/// SAFETY: the event must be live; a null one is fine.
unsafe fn described_id(event: &Event) -> Option<String> {
    // SAFETY: pointers are checked for null and live as long as the event.
    unsafe {
        if event.0.is_null() || c::rd_kafka_event_error(event.0).is_error() {
            return None;
        }
        let result = c::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return None;
        }
        let mut count = 0;
        let descriptions = c::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if descriptions.is_null() || count == 0 {
            return None;
        }
        let description = *descriptions;
        let error = c::rd_kafka_TopicDescription_error(description);
        if !error.is_null() && c::rd_kafka_error_code(error).is_error() {
            return None;
        }
        let id = c::rd_kafka_TopicDescription_topic_id(description);
        if id.is_null() {
            return None;
        }
        let (most, least) = (c::rd_kafka_Uuid_most_significant_bits(id), c::rd_kafka_Uuid_least_significant_bits(id));
        if (most, least) == (0, 0) {
            return None;
        }
        let text = c::rd_kafka_Uuid_base64str(id);
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}
