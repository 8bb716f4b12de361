//! Topics and records on the real broker.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use warehouse_sync::config::StreamNames;
use warehouse_sync::demo::sample::SampleRecord;
use warehouse_sync::model::Object;

/// Three topics of their own for one test.
pub struct Topics {
    /// Address of the broker.
    pub bootstrap: String,
    /// Their names.
    pub names: StreamNames,
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Topics {
    /// Makes topics with so many partitions each (metrics: one).
    pub fn make(partitions: i32) -> Self {
        Self::make_with(&super::variable("WAREHOUSE_SYNC_TEST_KAFKA"), partitions, &[])
    }

    /// Makes topics with settings.
    pub fn make_with(bootstrap: &str, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let test = uuid::Uuid::now_v7().simple().to_string();
        let names =
            StreamNames { profiles: format!("profiles-{test}"), events: format!("events-{test}"), metrics: format!("metrics-{test}") };
        let topics = Self { bootstrap: bootstrap.to_owned(), names, producer: producer(bootstrap, &[]) };
        for (name, partitions) in [(&topics.names.profiles, partitions), (&topics.names.events, partitions), (&topics.names.metrics, 1)] {
            topics.create(name, partitions, settings);
        }
        topics
    }

    /// Makes one topic.
    pub fn create(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (setting, value) in settings {
            topic = topic.set(setting, value);
        }
        let results = futures::executor::block_on(self.admin().create_topics([&topic], &AdminOptions::new())).unwrap();
        results.into_iter().for_each(|result| drop(result.unwrap()));
        self.wait_for(name, Some(partitions as usize));
    }

    /// Deletes one topic and waits until it is gone.
    pub fn delete(&self, name: &str) {
        let results = futures::executor::block_on(self.admin().delete_topics(&[name], &AdminOptions::new())).unwrap();
        results.into_iter().for_each(|result| drop(result.unwrap()));
        self.wait_for(name, None);
    }

    /// Adds partitions to a topic.
    pub fn add_partitions(&self, name: &str, count: usize) {
        let results =
            futures::executor::block_on(self.admin().create_partitions([&NewPartitions::new(name, count)], &AdminOptions::new())).unwrap();
        results.into_iter().for_each(|result| drop(result.unwrap()));
        self.wait_for(name, Some(count));
    }

    /// Deletes the records of one partition below an offset, as retention does.
    pub fn delete_records(&self, name: &str, partition: i32, below: i64) {
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset(name, partition, rdkafka::Offset::Offset(below)).unwrap();
        futures::executor::block_on(self.admin().delete_records(&list, &AdminOptions::new())).unwrap();
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.bootstrap).create().unwrap()
    }

    fn wait_for(&self, name: &str, partitions: Option<usize>) {
        super::wait_until(&format!("topic {name} with {partitions:?} partitions"), Duration::from_secs(30), || {
            let metadata = self.producer.client().fetch_metadata(Some(name), Duration::from_secs(10)).unwrap();
            let found = metadata.topics().iter().find(|topic| topic.name() == name && topic.error().is_none());
            match partitions {
                Some(count) => found.is_some_and(|topic| topic.partitions().len() == count),
                None => found.is_none(),
            }
        });
    }

    /// Publishes records and waits until they are acknowledged.
    pub fn publish(&self, records: impl IntoIterator<Item = SampleRecord>) -> usize {
        publish(&self.producer, &self.names.topics(), records)
    }
}

/// A producer that waits for every acknowledgement.
pub fn producer(bootstrap: &str, settings: &[(&str, &str)]) -> ThreadedProducer<DefaultProducerContext> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .set("enable.idempotence", "true");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().unwrap()
}

/// Publishes records to their topics.
pub fn publish(
    producer: &ThreadedProducer<DefaultProducerContext>,
    topics: &HashMap<Object, String>,
    records: impl IntoIterator<Item = SampleRecord>,
) -> usize {
    let mut count = 0;
    for record in records {
        let mut message = BaseRecord::<[u8], [u8]>::to(&topics[&record.object]).timestamp(record.timestamp);
        if let Some(key) = &record.key {
            message = message.key(key.as_bytes());
        }
        if let Some(value) = &record.value {
            message = message.payload(value);
        }
        while let Err((error, back)) = producer.send(message) {
            assert_eq!(error.rdkafka_error_code(), Some(rdkafka::types::RDKafkaErrorCode::QueueFull));
            message = back;
            drop(producer.flush(Duration::from_millis(100)));
        }
        count += 1;
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    assert_eq!(producer.in_flight_count(), 0);
    count
}

/// A small event with a number.
pub fn event(id: &str, metric: &str, number: u64, timestamp: i64) -> SampleRecord {
    let value = format!(
        r#"{{"type":"event","id":"{id}","attributes":{{"datetime":"2026-09-04T13:38:55+00:00","event_properties":{{"number":{number}}},"uuid":"u"}},"relationships":{{"metric":{{"data":{{"type":"metric","id":"{metric}"}}}},"profile":{{"data":{{"type":"profile","id":"P{number}"}}}}}}}}"#
    );
    SampleRecord { object: Object::Events, key: Some(id.to_owned()), value: Some(value.into_bytes()), timestamp, broken: None }
}

/// A metric of an integration.
pub fn metric(id: &str, name: &str, integration: &str, timestamp: i64) -> SampleRecord {
    let value = format!(
        r#"{{"type":"metric","id":"{id}","attributes":{{"name":"{name}","created":"2022-05-31T06:36:45+00:00","updated":"2022-05-31T06:36:45+00:00","integration":{{"object":"integration","id":"i-{integration}","key":"{integration}","name":"{integration}","category":"API"}}}}}}"#
    );
    SampleRecord { object: Object::Metrics, key: Some(id.to_owned()), value: Some(value.into_bytes()), timestamp, broken: None }
}

/// A deletion.
pub fn tombstone(object: Object, id: &str, timestamp: i64) -> SampleRecord {
    SampleRecord { object, key: Some(id.to_owned()), value: None, timestamp, broken: None }
}

/// The time now, in milliseconds.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
