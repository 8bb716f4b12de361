//! The pure parts, driven at random: topics that grow, pauses, failures, lost answers and crashes, in
//! any order. Whatever happens, every offset is committed exactly once and nothing is read past a slice.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;
use warehouse_sync::model::run::{FilterSpec, RetryPolicy, VersionBounds};
use warehouse_sync::model::{
    Certificate, Checkpoint, ConnectionId, Counts, ErrorCode, FileFormat, Manifest, Object, Offset, Partition, Position, Run, RunEvent,
    RunId, RunSpec, RunState, Stage, SyncError, SyncId, SyncKind,
};

/// What happens next in a simulated life.
#[derive(Debug, Clone)]
enum Step {
    /// Records are published.
    Grow { partition: Partition, by: Offset },
    /// The engine does one thing.
    Work,
    /// The step that comes next fails, for a reason that passes or that a person must fix.
    Fail { fatal: bool },
    /// The commit happens, its answer is lost.
    LoseAnswer,
    /// The process dies; what is not stored is gone.
    Crash,
    /// A person pauses while staging.
    Pause,
    /// A person retries.
    Retry,
    /// The stage is gone.
    LoseStage,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..4i32, 1..50i64).prop_map(|(partition, by)| Step::Grow { partition, by }),
        12 => Just(Step::Work),
        1 => any::<bool>().prop_map(|fatal| Step::Fail { fatal }),
        1 => Just(Step::LoseAnswer),
        1 => Just(Step::Crash),
        1 => Just(Step::Pause),
        2 => Just(Step::Retry),
        1 => Just(Step::LoseStage),
    ];
    proptest::collection::vec(step, 1..300)
}

/// A world with one topic, one ledger and one store.
#[derive(Default)]
struct World {
    ends: BTreeMap<Partition, Offset>,
    /// The destination: committed offsets, and the runs in order.
    committed: BTreeSet<(Partition, Offset)>,
    ledger: Vec<RunId>,
    ledger_checkpoint: Checkpoint,
    /// The store.
    checkpoint: Checkpoint,
    run: Option<Run>,
    next_id: u128,
    now: i64,
}

impl World {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + self.now).unwrap()
    }

    fn plan(&mut self) {
        let slice = self.checkpoint.until(&self.ends).capped(40);
        if slice.is_empty() {
            return;
        }
        self.next_id += 1;
        let spec = RunSpec {
            connection: ConnectionId(Uuid::nil()),
            sync: SyncId::new(Object::Events, SyncKind::Periodic),
            sequence: self.ledger.len() as u64 + 1,
            start: self.checkpoint.clone(),
            slice,
            versions: VersionBounds::default(),
            filter: FilterSpec::default(),
            file_format: FileFormat::NdjsonGzip,
            frozen_at: self.now(),
            reaches_end: false,
            replay: vec![],
        };
        self.run = Some(Run::planned(RunId(Uuid::from_u128(self.next_id)), spec, self.now()));
    }

    fn manifest(run: &Run, attempt: &str) -> Box<Manifest> {
        let reached = Checkpoint::new(run.spec.slice.ranges().map(|(partition, range)| (partition, Position::at(range.end))));
        Box::new(Manifest {
            run: run.id,
            attempt: attempt.to_owned(),
            slice: run.spec.slice.clone(),
            digest: run.spec.slice.digest(),
            reached,
            counts: Counts::default(),
            tables: BTreeMap::new(),
            files: vec![],
            file_format: FileFormat::NdjsonGzip,
            catalogue: BTreeMap::new(),
            frozen_at: run.spec.frozen_at,
            settled: vec![],
        })
    }

    /// The destination's side of a commit, as architecture.md 3 demands it.
    fn commit(&mut self, run: &Run, manifest: &Manifest) {
        if self.ledger.contains(&run.id) {
            return;
        }
        assert_eq!(run.spec.sequence, self.ledger.len() as u64 + 1, "a commit out of order");
        self.ledger_checkpoint = self.ledger_checkpoint.advanced(&manifest.slice, &manifest.reached).expect("slices follow each other");
        for (partition, range) in manifest.slice.ranges() {
            assert!(range.end <= self.ends[&partition], "past the end");
            for offset in range.start..range.end {
                assert!(self.committed.insert((partition, offset)), "offset {offset} of partition {partition} twice");
            }
        }
        self.ledger.push(run.id);
    }

    /// One step of the engine, with or without an accident.
    fn work(&mut self, accident: Option<&Step>) {
        let policy = RetryPolicy::default();
        let Some(run) = self.run.clone() else { return self.plan() };
        let now = self.now();
        let apply = |run: &Run, event: RunEvent| run.apply(event, now, &policy).unwrap();
        let failure = |code: ErrorCode| RunEvent::Failed { error: SyncError::new(code, Stage::Commit, "x") };
        let next = match (&run.state, accident) {
            (RunState::Waiting { until, .. }, _) => {
                self.now = self.now.max(until.as_second() - 1_800_000_000);
                apply(&run, RunEvent::Woken)
            }
            (RunState::Failed { .. }, Some(Step::Retry)) => apply(&run, RunEvent::Retry { accept_rejected: false }),
            (RunState::Failed { .. }, _) => run,
            (
                RunState::Staging { .. } | RunState::Planned | RunState::Staged { .. } | RunState::Committing { .. },
                Some(Step::Fail { fatal }),
            ) => apply(&run, failure(if *fatal { ErrorCode::AuthInvalid } else { ErrorCode::Unavailable })),
            (RunState::Planned, _) => apply(&run, RunEvent::StageStarted { attempt: format!("a{}", self.now) }),
            (RunState::Staging { .. }, Some(Step::Crash | Step::Pause)) => apply(&run, RunEvent::Interrupted),
            (RunState::Staging { attempt }, _) => apply(&run, RunEvent::StageDone { manifest: Self::manifest(&run, attempt) }),
            (RunState::Staged { .. }, _) => apply(&run, RunEvent::CommitStarted),
            // The ledger decides: a lost stage counts only when the ledger lacks the run.
            (RunState::Committing { .. }, Some(Step::LoseStage)) if !self.ledger.contains(&run.id) => {
                apply(&run, failure(ErrorCode::StageLost))
            }
            (RunState::Committing { manifest, .. }, Some(Step::LoseAnswer)) => {
                self.commit(&run, manifest);
                apply(&run, failure(ErrorCode::Unavailable))
            }
            (RunState::Committing { manifest, .. }, Some(Step::Crash)) => {
                self.commit(&run, manifest);
                run
            }
            (RunState::Committing { manifest, .. }, _) => {
                self.commit(&run, manifest);
                let certificate = Certificate {
                    run: run.id,
                    connection: run.spec.connection,
                    sync: run.spec.sync,
                    sequence: run.spec.sequence,
                    slice: run.spec.slice.clone(),
                    digest: manifest.digest.clone(),
                    counts: Counts::default(),
                    tables: BTreeMap::new(),
                    files: 0,
                    file_bytes: 0,
                    receipt: Default::default(),
                    frozen_at: run.spec.frozen_at,
                    committed_at: now,
                    failed_tries: run.failed_tries,
                };
                self.checkpoint = self.checkpoint.advanced(&manifest.slice, &manifest.reached).expect("our own checkpoint follows");
                apply(&run, RunEvent::CommitDone { certificate: Box::new(certificate) })
            }
            (RunState::Committed { .. } | RunState::Cancelled, _) => run,
        };
        self.run = (!next.state.is_over()).then_some(next);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_offset_is_committed_exactly_once(steps in steps()) {
        let mut world = World::default();
        for step in &steps {
            world.now += 1;
            match step {
                Step::Grow { partition, by } => *world.ends.entry(*partition).or_default() += by,
                Step::Work => world.work(None),
                accident => world.work(Some(accident)),
            }
            prop_assert!(world.checkpoint.positions().all(|(partition, position)| position.next <= world.ledger_checkpoint.position(partition).next), "the store is never ahead of the ledger");
        }
        for _ in 0..10_000 {
            if world.run.is_none() && world.checkpoint.until(&world.ends).is_empty() {
                break;
            }
            world.now += 1;
            world.work(Some(&Step::Retry));
        }
        let expected: BTreeSet<_> = world.ends.iter().flat_map(|(partition, end)| (0..*end).map(move |offset| (*partition, offset))).collect();
        prop_assert_eq!(world.committed, expected);
        prop_assert_eq!(world.checkpoint, world.ledger_checkpoint);
    }
}
