//! Kafka: bounded reads of frozen slices by `assign`, without a consumer group: correctness must not
//! depend on rebalances, and positions live in the destination's ledger.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio_util::sync::CancellationToken;

use super::librdkafka::{self, Events, Polled};
use super::{Bounds, ReadEnd, RecordSink, Source};
use crate::model::position::Millis;
use crate::model::{ErrorCode, Object, Offset, Partition, Slice, Stage, SyncError};

/// How long a question to the brokers may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a read may stand still before it is given up and tried again as a new attempt.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait for the client to tell why a question failed.
const CAUSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a waiting read looks whether it is to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Kafka as a source.
pub struct KafkaSource {
    bootstrap_servers: String,
    topics: HashMap<Object, String>,
    properties: BTreeMap<String, String>,
    lookup: OnceLock<BaseConsumer<Context>>,
}

/// Keeps the last failure that the client reported, since a call that times out does not say why.
#[derive(Default)]
struct Context {
    last_error: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl Context {
    fn note(&self, code: RDKafkaErrorCode, reason: &str) {
        let mut last = self.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A refused password is followed by "transport failure" and "all brokers down", which say less.
        if !is_vague(code) || last.as_ref().is_none_or(|(before, _)| is_vague(*before)) {
            *last = Some((code, reason.to_owned()));
        }
    }

    fn knows_the_cause(&self) -> bool {
        self.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).as_ref().is_some_and(|(code, _)| !is_vague(*code))
    }

    fn take(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Failures are reported where they are handled; the client's own log is for debugging.
        tracing::debug!(target: "librdkafka", ?level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.note(code, reason);
        }
    }
}

impl ConsumerContext for Context {}

impl KafkaSource {
    /// A source that reads `topics` from the given brokers. `properties` are passed to librdkafka as
    /// they are, secrets already resolved. Connects only when used.
    pub fn new(bootstrap_servers: String, topics: HashMap<Object, String>, properties: BTreeMap<String, String>) -> Self {
        Self { bootstrap_servers, topics, properties, lookup: OnceLock::new() }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        let defaults = [
            ("client.id", "warehouse-sync"),
            // `assign` needs a group's name although no group is ever joined and no offset committed.
            ("group.id", "warehouse-sync"),
            // A consumer faster than the broker otherwise stalls for a second at a time.
            ("fetch.queue.backoff.ms", "1"),
            ("queued.min.messages", "20000"),
            // One limit over all partitions, so that thousands of them need no more than one.
            ("queued.max.messages.kbytes", "8192"),
            ("fetch.max.bytes", "4194304"),
            ("fetch.message.max.bytes", "1048576"),
            // Slices end before the end of the log, so waiting for more data only delays the end.
            ("fetch.wait.max.ms", "50"),
            ("check.crcs", "true"),
            ("topic.metadata.refresh.interval.ms", "60000"),
            ("reconnect.backoff.max.ms", "2000"),
        ];
        for (name, value) in defaults {
            config.set(name, value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        let own = [
            ("bootstrap.servers", self.bootstrap_servers.as_str()),
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "true"),
            // The pipeline may rightly hold a read back for long.
            ("max.poll.interval.ms", "86400000"),
        ];
        for (name, value) in own {
            config.set(name, value);
        }
        config
    }

    fn consumer(&self) -> Result<BaseConsumer<Context>, SyncError> {
        self.config().create_with_context(Context::default()).map_err(|error| {
            SyncError::new(
                ErrorCode::ConfigurationInvalid,
                Stage::Configuration,
                "librdkafka refuses the settings under [kafka] properties",
            )
            .external(error)
        })
    }

    fn lookup(&self) -> Result<&BaseConsumer<Context>, SyncError> {
        match self.lookup.get() {
            Some(consumer) => Ok(consumer),
            None => {
                let consumer = self.consumer()?;
                Ok(self.lookup.get_or_init(|| consumer))
            }
        }
    }

    fn topic(&self, object: Object) -> &str {
        self.topics.get(&object).map_or("", String::as_str)
    }

    /// Names the cause of a failed question: what the client reported meanwhile says more than "timed out".
    fn explain(&self, consumer: &BaseConsumer<Context>, error: &KafkaError, topic: &str) -> SyncError {
        let own = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let asked = Instant::now();
        // The event that tells the cause comes on another way and may be a little late.
        while is_vague(own) && !consumer.context().knows_the_cause() && asked.elapsed() < CAUSE_TIMEOUT {
            drop(consumer.poll(POLL_INTERVAL));
        }
        match consumer.context().take() {
            Some((code, reason)) if is_vague(own) => classify(code, &reason, topic),
            _ => classify(own, &error.to_string(), topic),
        }
    }

    fn partitions(&self, consumer: &BaseConsumer<Context>, topic: &str) -> Result<Vec<Partition>, SyncError> {
        let metadata = consumer.fetch_metadata(Some(topic), LOOKUP_TIMEOUT).map_err(|error| self.explain(consumer, &error, topic))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Err(classify(RDKafkaErrorCode::UnknownTopicOrPartition, "not in the broker's metadata", topic));
        };
        if let Some(code) = found.error() {
            let code = RDKafkaErrorCode::from(code);
            return Err(classify(code, &code.to_string(), topic));
        }
        if found.partitions().is_empty() {
            return Err(classify(RDKafkaErrorCode::UnknownTopicOrPartition, "the topic has no partitions", topic));
        }
        let mut partitions: Vec<Partition> = found.partitions().iter().map(|partition| partition.id()).collect();
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// One request per broker for all partitions: the offsets that belong to `time`, which is a time in
    /// milliseconds or one of librdkafka's logical offsets.
    fn offsets(
        &self,
        consumer: &BaseConsumer<Context>,
        topic: &str,
        partitions: &[Partition],
        time: rdkafka::Offset,
    ) -> Result<BTreeMap<Partition, rdkafka::Offset>, SyncError> {
        let failed = |error: KafkaError| self.explain(consumer, &error, topic);
        let mut query = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            query.add_partition_offset(topic, *partition, time).map_err(failed)?;
        }
        let answer = consumer.offsets_for_times(query, LOOKUP_TIMEOUT).map_err(failed)?;
        answer.elements().iter().map(|element| element.error().map(|()| (element.partition(), element.offset())).map_err(failed)).collect()
    }
}

impl Source for KafkaSource {
    fn describe(&self) -> String {
        format!("Kafka {}", self.bootstrap_servers)
    }

    fn stream_name(&self, object: Object) -> String {
        self.topic(object).to_owned()
    }

    fn bounds(&self, object: Object) -> Result<Bounds, SyncError> {
        let (topic, consumer) = (self.topic(object), self.lookup()?);
        let partitions = self.partitions(consumer, topic)?;
        let exact = |offsets: BTreeMap<Partition, rdkafka::Offset>| -> Result<BTreeMap<Partition, Offset>, SyncError> {
            offsets
                .into_iter()
                .map(|(partition, offset)| match offset {
                    rdkafka::Offset::Offset(offset) => Ok((partition, offset)),
                    other => Err(classify(RDKafkaErrorCode::Fail, &format!("partition {partition}: the broker answered {other:?}"), topic)),
                })
                .collect()
        };
        // The lower bounds first: retention may move them up meanwhile, but never past the upper ones.
        let lowest = exact(self.offsets(consumer, topic, &partitions, rdkafka::Offset::Beginning)?)?;
        let next = exact(self.offsets(consumer, topic, &partitions, rdkafka::Offset::End)?)?;
        let topic_id = if is_emulated(consumer) { None } else { librdkafka::topic_id(consumer, topic, LOOKUP_TIMEOUT) };
        Ok(Bounds { lowest, next, topic_id })
    }

    fn offsets_since(&self, object: Object, since: Millis, bounds: &Bounds) -> Result<BTreeMap<Partition, Offset>, SyncError> {
        let (topic, consumer) = (self.topic(object), self.lookup()?);
        let partitions: Vec<Partition> = bounds.lowest.keys().copied().collect();
        let found = self.offsets(consumer, topic, &partitions, rdkafka::Offset::Offset(since.max(0)))?;
        Ok(bounds
            .lowest
            .iter()
            .map(|(partition, lowest)| {
                let start = match found.get(partition) {
                    Some(rdkafka::Offset::Offset(offset)) if *offset >= 0 => (*offset).max(*lowest),
                    // "End" can mean that nothing is that young, or that the broker has no time index
                    // (an emulated one). The beginning is right in both cases, if slower in the first.
                    _ => *lowest,
                };
                (*partition, start)
            })
            .collect())
    }

    fn deletion_retention(&self, object: Object) -> Result<Option<Duration>, SyncError> {
        let topic = self.topic(object);
        if is_emulated(self.lookup()?) {
            return Ok(None);
        }
        let admin: AdminClient<rdkafka::client::DefaultClientContext> =
            self.config().create().map_err(|error| SyncError::internal(Stage::Plan, "no admin client for Kafka").external(error))?;
        let options = AdminOptions::new().request_timeout(Some(LOOKUP_TIMEOUT));
        let answer = futures::executor::block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options));
        let resource = match answer.map(|mut answers| answers.pop()) {
            Ok(Some(Ok(resource))) => resource,
            refused => {
                // Not every broker lets us look; the guard of expired deletions is then off.
                tracing::debug!(topic, ?refused, "the topic's settings cannot be read");
                return Ok(None);
            }
        };
        let setting = |name: &str| resource.entries.iter().find(|entry| entry.name == name).and_then(|entry| entry.value.clone());
        if !setting("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
            return Ok(None);
        }
        Ok(setting("delete.retention.ms").and_then(|text| text.parse().ok()).map(Duration::from_millis))
    }

    fn read(&self, object: Object, slice: &Slice, stop: &CancellationToken, sink: &mut RecordSink<'_>) -> Result<ReadEnd, SyncError> {
        let topic = self.topic(object);
        let consumer = self.consumer()?;
        let failed = |error: KafkaError| self.explain(&consumer, &error, topic);
        let mut assignment = TopicPartitionList::with_capacity(slice.partitions());
        for (partition, range) in slice.ranges() {
            assignment.add_partition_offset(topic, partition, rdkafka::Offset::Offset(range.start)).map_err(failed)?;
        }
        consumer.assign(&assignment).map_err(failed)?;
        let events = Events::of(&consumer).ok_or_else(|| SyncError::internal(Stage::Stage, "the Kafka consumer has no queue"))?;
        let mut reader =
            Reader { source: self, object, topic, slice, open: slice.ranges().map(|(partition, range)| (partition, range.end)).collect() };
        let mut last_progress = Instant::now();
        while !reader.open.is_empty() {
            if stop.is_cancelled() {
                return Ok(ReadEnd::Stopped);
            }
            match events.poll(POLL_INTERVAL, |polled| reader.handle(polled, &events, sink))? {
                Progress::Made => last_progress = Instant::now(),
                Progress::None if last_progress.elapsed() > STALL_TIMEOUT => {
                    let (code, reason) = consumer.context().take().unwrap_or((RDKafkaErrorCode::OperationTimedOut, String::new()));
                    let seconds = STALL_TIMEOUT.as_secs();
                    return Err(classify(code, &format!("nothing came for {seconds} s; {reason}"), topic));
                }
                Progress::None => {}
            }
        }
        Ok(ReadEnd::Complete)
    }
}

/// librdkafka's mock cluster, which the demo runs on, answers no administrative requests at all; asking
/// would only wait for the time-out.
fn is_emulated(consumer: &BaseConsumer<Context>) -> bool {
    consumer.client().fetch_cluster_id(LOOKUP_TIMEOUT).is_some_and(|id| id.starts_with("mockCluster"))
}

enum Progress {
    Made,
    None,
}

struct Reader<'r> {
    source: &'r KafkaSource,
    object: Object,
    topic: &'r str,
    slice: &'r Slice,
    /// Partitions that are not done, with the end of their range.
    open: HashMap<Partition, Offset>,
}

impl Reader<'_> {
    fn handle(&mut self, polled: Polled<'_>, events: &Events<'_, Context>, sink: &mut RecordSink<'_>) -> Result<Progress, SyncError> {
        match polled {
            Polled::Record(record) => {
                let Some(end) = self.open.get(&record.partition).copied() else { return Ok(Progress::Made) };
                if record.offset < end {
                    sink(record)?;
                }
                if record.offset + 1 >= end {
                    self.close(record.partition, events)?;
                }
                Ok(Progress::Made)
            }
            Polled::End { partition, offset } => {
                match self.open.get(&partition) {
                    Some(end) if offset >= *end => self.close(partition, events)?,
                    Some(end) => self.ended_early(partition, offset, *end)?,
                    None => {}
                }
                Ok(Progress::Made)
            }
            Polled::Error { code, reason } => {
                events.consumer().context().note(code, &reason);
                match code {
                    // The client keeps trying by itself; a read that stands still is ended by its time-out.
                    RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::Resolve
                    | RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::RequestTimedOut | RDKafkaErrorCode::NotLeaderForPartition
                    | RDKafkaErrorCode::LeaderNotAvailable | RDKafkaErrorCode::NodeUpdate | RDKafkaErrorCode::NetworkException
                    // We join no group; its coordinator is of no interest.
                    | RDKafkaErrorCode::GroupAuthorizationFailed | RDKafkaErrorCode::CoordinatorNotAvailable
                    | RDKafkaErrorCode::CoordinatorLoadInProgress | RDKafkaErrorCode::NotCoordinator => Ok(Progress::None),
                    RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => Err(self.out_of_range(&reason)),
                    _ => Err(classify(code, &reason, self.topic)),
                }
            }
            Polled::Nothing => Ok(Progress::None),
        }
    }

    /// The partition is done: no more of it is fetched.
    fn close(&mut self, partition: Partition, events: &Events<'_, Context>) -> Result<(), SyncError> {
        self.open.remove(&partition);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(self.topic, partition);
        events.consumer().pause(&list).map_err(|error| classify(RDKafkaErrorCode::Fail, &error.to_string(), self.topic))
    }

    /// A replica that lags behind its leader ends early and goes on later; a topic that was cut does not.
    fn ended_early(&self, partition: Partition, offset: Offset, end: Offset) -> Result<(), SyncError> {
        let next = self.source.bounds(self.object)?.next.get(&partition).copied();
        if next.is_some_and(|next| next >= end) {
            return Ok(());
        }
        let summary = format!("partition {partition} of `{}` ends at offset {offset}, but the run was planned up to {end}", self.topic);
        Err(SyncError::new(ErrorCode::OffsetsReset, Stage::Stage, summary))
    }

    fn out_of_range(&self, reason: &str) -> SyncError {
        let bounds = match self.source.bounds(self.object) {
            Ok(bounds) => bounds,
            Err(error) => return error,
        };
        let overrun =
            self.slice.ranges().find(|(partition, range)| bounds.lowest.get(partition).is_some_and(|lowest| *lowest > range.start));
        match overrun {
            Some((partition, range)) => {
                let lowest = bounds.lowest.get(&partition).copied().unwrap_or_default();
                let summary =
                    format!("partition {partition} of `{}` begins at offset {lowest}, but {} is the next to read", self.topic, range.start);
                SyncError::new(ErrorCode::RetentionOverrun, Stage::Stage, summary).external(reason)
            }
            None => SyncError::new(ErrorCode::OffsetsReset, Stage::Stage, format!("`{}` does not hold the offsets to read", self.topic))
                .external(reason),
        }
    }
}

/// Codes that only say that something went wrong on the way.
fn is_vague(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::Fail
    )
}

/// Turns librdkafka's code into ours. librdkafka has one code for all failures of a TLS handshake and
/// one for all of SASL; its text is shown, not matched.
pub fn classify(code: RDKafkaErrorCode, reason: &str, topic: &str) -> SyncError {
    use RDKafkaErrorCode as Code;
    let (ours, summary) = match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::IllegalSASLState => {
            (ErrorCode::KafkaAuthInvalid, "the Kafka broker refused our credentials".to_owned())
        }
        Code::SSL => (ErrorCode::KafkaTlsInvalid, "no trusted TLS connection to the Kafka broker".to_owned()),
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            (ErrorCode::KafkaPermissionDenied, format!("not allowed to read topic `{topic}`"))
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::InvalidTopic | Code::UnknownTopicId => {
            (ErrorCode::TopicNotFound, format!("topic `{topic}` does not exist"))
        }
        Code::OffsetOutOfRange | Code::AutoOffsetReset => {
            (ErrorCode::OffsetsReset, format!("topic `{topic}` does not hold the offsets to read"))
        }
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::NetworkException
        | Code::OperationTimedOut
        | Code::RequestTimedOut => (ErrorCode::BrokerUnreachable, "no Kafka broker answers".to_owned()),
        _ => (ErrorCode::SourceReadFailed, format!("topic `{topic}` cannot be read")),
    };
    SyncError::new(ours, Stage::Stage, summary).external(format!("{code}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RetryHint;

    #[test]
    fn every_kafka_failure_has_its_code() {
        use RDKafkaErrorCode as Code;
        for (code, expected, waits_for_a_person) in [
            (Code::Authentication, ErrorCode::KafkaAuthInvalid, true),
            (Code::SaslAuthenticationFailed, ErrorCode::KafkaAuthInvalid, true),
            (Code::SSL, ErrorCode::KafkaTlsInvalid, true),
            (Code::TopicAuthorizationFailed, ErrorCode::KafkaPermissionDenied, true),
            (Code::UnknownTopicOrPartition, ErrorCode::TopicNotFound, true),
            (Code::OffsetOutOfRange, ErrorCode::OffsetsReset, true),
            (Code::AllBrokersDown, ErrorCode::BrokerUnreachable, false),
            (Code::BrokerTransportFailure, ErrorCode::BrokerUnreachable, false),
            (Code::Resolve, ErrorCode::BrokerUnreachable, false),
            (Code::OperationTimedOut, ErrorCode::BrokerUnreachable, false),
            (Code::InvalidMessage, ErrorCode::SourceReadFailed, false),
        ] {
            let error = classify(code, "why", "t");
            assert_eq!(error.code, expected, "{code}");
            assert_eq!(error.retry == RetryHint::WhenFixed, waits_for_a_person, "{code}");
            assert!(error.external.as_deref().is_some_and(|text| text.contains("why")));
        }
    }
}
