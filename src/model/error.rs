//! What went wrong, who must act, and whether trying again can help.
//!
//! One table, [`ErrorCode::policy`], says for every code who is to blame, how it is retried and what
//! a person can do. Drivers decide on a code at their edge, by type and code of what they were told.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest external message that is kept, in bytes.
pub const MAX_EXTERNAL_MESSAGE: usize = 2048;

/// In which step it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reading settings.
    Configuration,
    /// Checking or preparing a connection.
    Connect,
    /// Looking at the source: offsets, identity.
    Plan,
    /// Reading, encoding, uploading.
    Stage,
    /// Balancing the counts.
    Account,
    /// Making rows visible.
    Commit,
    /// Clean-up, or proof after the fact.
    Verify,
}

/// Who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// Whoever set the connection up: credentials, grants, missing table, quota.
    Customer,
    /// The destination's service.
    Warehouse,
    /// Kafka, or whoever publishes to it.
    Source,
    /// This program, or the machine that it runs on.
    Us,
}

impl Blame {
    /// In words, as shown to people.
    pub const fn who_must_act(self) -> &'static str {
        match self {
            Blame::Customer => "you (connection settings or grants)",
            Blame::Warehouse => "the destination's service (we keep trying)",
            Blame::Source => "whoever runs the source",
            Blame::Us => "the operator of warehouse-sync",
        }
    }
}

/// Whether and when trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryHint {
    /// Try again with growing pauses.
    Backoff,
    /// The server said when to come back.
    After(Duration),
    /// Only after a person fixed something.
    WhenFixed,
    /// A second try with a new attempt, at once: the state it depended on is gone, and staging again repairs it.
    Restage,
}

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $name:ident $text:literal $blame:ident $retry:ident $hint:literal;)+) => {
        /// Every error that this program can report. The text form is stored and shown.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode { $($(#[doc = $doc])+ #[serde(rename = $text)] $name,)+ }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)+];

            /// The code as it is stored and shown.
            pub const fn text(self) -> &'static str { match self { $(ErrorCode::$name => $text,)+ } }

            /// Who must act, whether it is retried, and what a person can do.
            pub const fn policy(self) -> (Blame, RetryHint, &'static str) {
                match self { $(ErrorCode::$name => (Blame::$blame, RetryHint::$retry, $hint),)+ }
            }
        }
    };
}

error_codes! {
    /// A configuration file is wrong.
    ConfigurationInvalid "CONFIGURATION_INVALID" Customer WhenFixed "Correct the settings named in the message.";
    /// No broker answers.
    BrokerUnreachable "BROKER_UNREACHABLE" Source Backoff "Check kafka.bootstrap_servers, the network between this machine and the brokers, and that the brokers are up.";
    /// The broker refused our credentials.
    KafkaAuthInvalid "KAFKA_AUTH_INVALID" Customer WhenFixed "Correct sasl.mechanism, sasl.username and sasl.password (or the client certificate) under [kafka] properties, restart, then retry the sync.";
    /// The broker's certificate could not be verified.
    KafkaTlsInvalid "KAFKA_TLS_INVALID" Customer WhenFixed "Set ssl.ca.location to the authority that signed the brokers' certificates, and use host names that stand in them.";
    /// The broker does not let us read a topic.
    KafkaPermissionDenied "KAFKA_PERMISSION_DENIED" Customer WhenFixed "Grant READ and DESCRIBE on the topic to the user of this program.";
    /// The topic does not exist.
    TopicNotFound "TOPIC_NOT_FOUND" Source WhenFixed "Create the topic, or correct its name under [streams], then retry the sync.";
    /// A topic of the same name has replaced the one that was read so far.
    TopicRecreated "TOPIC_RECREATED" Source WhenFixed "The topic was deleted and created again: its offsets now mean other records. If that was intended, connect again with --fresh; nothing that was committed is touched.";
    /// The topic ends before the checkpoint.
    OffsetsReset "OFFSETS_RESET" Source WhenFixed "The topic ends before the last record that was committed: it was truncated, restored from an old copy, or re-created. Restore it; or connect again with --fresh to read what is there now.";
    /// Records were expired before they were read.
    RetentionOverrun "RETENTION_OVERRUN" Source WhenFixed "Records were deleted by the topic's retention before they were read. They cannot be recovered from the topic; `warehouse-sync syncs skip SYNC` books the gap in the ledger and goes on behind it. Raise the topic's retention.";
    /// A partition was added and had already lost its beginning when it was first seen.
    PartitionAddedLate "PARTITION_ADDED_LATE" Source WhenFixed "A new partition no longer starts at offset 0: its first records expired before they were read. `warehouse-sync syncs skip SYNC` books the gap and goes on behind it.";
    /// A partition that was read has gone.
    PartitionMissing "PARTITION_MISSING" Source WhenFixed "A partition that was read before is gone: the topic was re-created with fewer partitions. Connect again with --fresh if that was intended.";
    /// Deletions on a compacted topic may have been removed before they were read.
    TombstonesExpired "TOMBSTONES_EXPIRED" Source WhenFixed "The sync rested longer than the topic keeps deletions (delete.retention.ms), so deletions may have vanished unseen. `warehouse-sync syncs skip SYNC` accepts that and goes on; to be certain, connect again with --fresh.";
    /// The source failed while being read.
    SourceReadFailed "SOURCE_READ_FAILED" Source Backoff "The broker or file could not be read; see the external message.";
    /// A file of the folder source became shorter, or its beginning changed.
    FileShrunk "FILE_SHRUNK" Source WhenFixed "Files of the folder source may only grow. Restore the file; or connect again with --fresh to read what is there now.";
    /// The destination refused the credentials.
    AuthInvalid "AUTH_INVALID" Customer WhenFixed "Correct the access key id and the secret access key (`warehouse-sync connection edit FILE`), then retry.";
    /// The destination's credentials have expired.
    AuthExpired "AUTH_EXPIRED" Customer WhenFixed "The temporary credentials have expired: provide new ones (a changed `file:` is read again, a changed `env:` needs a restart), then retry.";
    /// The destination does not allow what is needed.
    PermissionDenied "PERMISSION_DENIED" Customer WhenFixed "Grant s3:PutObject, s3:GetObject, s3:DeleteObject and s3:ListBucket on the bucket and prefix (sql/s3/policy.json), then retry.";
    /// Our clock and the destination's differ too much.
    ClockSkewed "CLOCK_SKEWED" Us Backoff "Set this machine's clock (NTP): it differs from the destination's by more than 15 minutes.";
    /// The bucket or folder does not exist.
    BucketNotFound "BUCKET_NOT_FOUND" Customer WhenFixed "Create the bucket, or correct its name, then retry.";
    /// The bucket is in another region.
    RegionMismatch "REGION_MISMATCH" Customer WhenFixed "Set `region` to the bucket's region, then retry.";
    /// The destination asked us to slow down.
    RateLimited "RATE_LIMITED" Warehouse Backoff "Nothing to do: we slow down and try again.";
    /// The destination has a fault of its own.
    Unavailable "UNAVAILABLE" Warehouse Backoff "Nothing to do: we try again.";
    /// The destination's host name does not resolve.
    HostNotFound "HOST_NOT_FOUND" Customer Backoff "Check the host name in `endpoint` (or `region`), and this machine's name service.";
    /// The destination's host does not answer.
    HostUnreachable "HOST_UNREACHABLE" Customer Backoff "Check the endpoint, and that the destination's firewall admits this machine's egress addresses.";
    /// The destination's certificate could not be verified.
    TlsInvalid "TLS_INVALID" Customer WhenFixed "The destination's certificate is not valid for its host name, or its authority is unknown to this machine.";
    /// The endpoint has no conditional writes.
    ConditionalWriteUnsupported "CONDITIONAL_WRITE_UNSUPPORTED" Customer WhenFixed "Exactly-once needs conditional writes (If-None-Match). Amazon S3, MinIO, SeaweedFS, Ceph (Squid) and R2 have them; this endpoint does not.";
    /// An object that we did not write stands where ours should.
    ObjectMismatch "OBJECT_MISMATCH" Customer WhenFixed "Something else writes below our prefix. Give warehouse-sync a prefix of its own.";
    /// A committed file is gone or was changed.
    ObjectChanged "OBJECT_CHANGED" Customer WhenFixed "A file that we committed was deleted or altered by somebody else. Restore it (bucket versioning), or connect again with --fresh.";
    /// Staged files are gone before they were committed.
    StageLost "STAGE_LOST" Warehouse Restage "Nothing to do: the run is staged again. If it happens often, exclude `_staging/` from life-cycle rules.";
    /// The destination is full.
    DestinationFull "DESTINATION_FULL" Customer Backoff "Free some space at the destination.";
    /// The request was malformed: our defect, or an incompatible endpoint.
    RequestRefused "REQUEST_REFUSED" Us WhenFixed "The destination refused a request as malformed. Report this with the external message.";
    /// The ledger stands elsewhere than we thought: another engine has committed.
    Conflict "CONFLICT" Us WhenFixed "Another engine has committed to this destination, or our state is an old copy. Stop the other one, then `warehouse-sync connect FILE --adopt`.";
    /// A newer connection has taken the destination over.
    TakenOver "TAKEN_OVER" Customer WhenFixed "Another connection has taken this destination over. Remove this connection, or connect again with --fresh to take it back.";
    /// The destination holds a connection that is not ours.
    ForeignConnection "FOREIGN_CONNECTION" Customer WhenFixed "The destination already holds a connection. `connect FILE --adopt` goes on where it stopped; `connect FILE --fresh` starts anew under a new connection id.";
    /// The destination's ledger has disappeared.
    GenesisMissing "GENESIS_MISSING" Customer WhenFixed "The ledger below `_ledger/` is gone: the bucket or folder was emptied or replaced. Restore it, or connect again with --fresh.";
    /// The ledger could not be understood.
    LedgerCorrupt "LEDGER_CORRUPT" Us WhenFixed "A ledger entry cannot be read. Restore it from a backup (bucket versioning); do not delete it.";
    /// Too many records of a run were rejected.
    TooManyRejected "TOO_MANY_REJECTED" Source WhenFixed "Nothing of the run was committed. The message names the reasons and the first places. If the records may be set aside: `warehouse-sync syncs retry SYNC --accept-rejected`.";
    /// Counts do not balance.
    AccountMismatch "ACCOUNT_MISMATCH" Us WhenFixed "Records read do not equal records staged, filtered and rejected. This is our defect: nothing was committed; report it.";
    /// What was staged is not what was sent.
    StageMismatch "STAGE_MISMATCH" Warehouse Restage "Nothing to do: the run is staged again.";
    /// The local disk is full or cannot be written.
    LocalDisk "LOCAL_DISK" Us Backoff "Free some space where `state.path` lies: the spool beside it needs about `max_part_bytes` for every file in flight.";
    /// Somebody else changed the same thing in our state at the same moment.
    StateChanged "STATE_CHANGED" Us Backoff "Nothing to do: it is looked at anew.";
    /// A secret could not be read.
    SecretUnreadable "SECRET_UNREADABLE" Us WhenFixed "Set the environment variable or make the file readable, restart, then retry.";
    /// Anything that we did not foresee.
    Internal "INTERNAL" Us Backoff "Report this with the external message.";
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

/// Everything that is known of a failure; what [`SyncError`] points to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetails {
    /// What, in one word.
    pub code: ErrorCode,
    /// In which step.
    pub stage: Stage,
    /// Who must act.
    pub blame: Blame,
    /// Whether trying again can help.
    pub retry: RetryHint,
    /// One sentence for a person.
    pub summary: String,
    /// What the other side said, secrets removed, at most [`MAX_EXTERNAL_MESSAGE`] bytes.
    pub external: Option<String>,
    /// What a person can do.
    pub hint: String,
}

/// A failure, classified. Display is the summary alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SyncError(Box<ErrorDetails>);

impl SyncError {
    /// A failure with the policy of its code.
    pub fn new(code: ErrorCode, stage: Stage, summary: impl Into<String>) -> Self {
        let (blame, retry, hint) = code.policy();
        Self(Box::new(ErrorDetails { code, stage, blame, retry, summary: summary.into(), external: None, hint: hint.to_owned() }))
    }

    /// Adds what the other side said, cut to [`MAX_EXTERNAL_MESSAGE`] bytes.
    pub fn external(mut self, message: impl std::fmt::Display) -> Self {
        let mut text = message.to_string();
        if text.len() > MAX_EXTERNAL_MESSAGE {
            let cut = (0..=MAX_EXTERNAL_MESSAGE - '…'.len_utf8()).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(cut.unwrap_or(0));
            text.push('…');
        }
        self.0.external = Some(text);
        self
    }

    /// Replaces the hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = hint.into();
        self
    }

    /// Replaces the retry policy.
    pub fn retry(mut self, retry: RetryHint) -> Self {
        self.0.retry = retry;
        self
    }

    /// Replaces the stage, where a caller knows better.
    pub fn at(mut self, stage: Stage) -> Self {
        self.0.stage = stage;
        self
    }

    /// Our own defect, or something that we did not foresee.
    pub fn internal(stage: Stage, summary: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, stage, summary)
    }
}

impl std::ops::Deref for SyncError {
    type Target = ErrorDetails;

    fn deref(&self) -> &ErrorDetails {
        &self.0
    }
}

impl std::fmt::Display for SyncError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.summary)
    }
}

impl std::error::Error for SyncError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_survive_storage() {
        let mut seen = std::collections::HashSet::new();
        for code in ErrorCode::ALL {
            assert!(seen.insert(code.text()), "{code} twice");
            let error = SyncError::new(*code, Stage::Stage, "summary");
            let text = serde_json::to_string(&error).unwrap();
            assert_eq!(serde_json::from_str::<SyncError>(&text).unwrap(), error);
            assert!(!error.hint.is_empty());
        }
    }

    #[test]
    fn long_external_messages_are_cut_at_a_character() {
        let error = SyncError::internal(Stage::Stage, "s").external("é".repeat(2000));
        let external = error.external.as_deref().unwrap();
        assert!(external.len() <= MAX_EXTERNAL_MESSAGE && external.ends_with('…'));
    }
}
