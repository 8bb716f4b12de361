//! The embedded broker: librdkafka's mock cluster, with the real wire protocol on a loopback port.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use super::sample::SampleRecord;
use crate::model::{ErrorCode, Object, Stage, SyncError};

/// The mock cluster keeps 5 MiB of each partition, as sent: many partitions and compression make room
/// for a year.
const PARTITIONS: [(Object, i32); 3] = [(Object::Profiles, 24), (Object::Events, 64), (Object::Metrics, 1)];

/// A broker within this process.
pub struct EmbeddedBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: ThreadedProducer<DefaultProducerContext>,
    topics: crate::config::StreamNames,
}

fn failed(what: &str, error: impl std::fmt::Display) -> SyncError {
    SyncError::new(ErrorCode::Internal, Stage::Configuration, format!("the embedded broker: {what}")).external(error)
}

impl EmbeddedBroker {
    /// Starts a broker with the three topics.
    pub fn start() -> Result<Self, SyncError> {
        let cluster = MockCluster::new(1).map_err(|error| failed("it does not start", error))?;
        let topics = crate::config::StreamNames::default();
        let names = topics.topics();
        for (object, partitions) in PARTITIONS {
            if let Some(name) = names.get(&object) {
                cluster.create_topic(name, partitions, 1).map_err(|error| failed("a topic cannot be made", error))?;
            }
        }
        let producer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("compression.type", "zstd")
            .set("linger.ms", "50")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "200000")
            .create()
            .map_err(|error| failed("no producer", error))?;
        Ok(Self { cluster, producer, topics })
    }

    /// Its address, for any Kafka client on this machine.
    pub fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Publishes records and waits until they are there.
    pub fn publish(&self, records: impl Iterator<Item = SampleRecord>) -> Result<u64, SyncError> {
        let names = self.topics.topics();
        let mut count = 0;
        for record in records {
            let Some(topic) = names.get(&record.object) else { continue };
            let mut message = BaseRecord::<[u8], [u8]>::to(topic).timestamp(record.timestamp);
            if let Some(key) = &record.key {
                message = message.key(key.as_bytes());
            }
            if let Some(value) = &record.value {
                message = message.payload(value);
            }
            loop {
                match self.producer.send(message) {
                    Ok(()) => break,
                    // The queue is full: wait until the broker has taken some.
                    Err((rdkafka::error::KafkaError::MessageProduction(rdkafka::error::RDKafkaErrorCode::QueueFull), back)) => {
                        message = back;
                        drop(self.producer.flush(Duration::from_millis(200)));
                    }
                    Err((error, _)) => return Err(failed("a record cannot be published", error)),
                }
            }
            count += 1;
        }
        self.producer.flush(Duration::from_secs(30)).map_err(|error| failed("records are not acknowledged", error))?;
        Ok(count)
    }
}
