use super::*;
use crate::model::error::{ErrorCode, Stage};
use crate::model::position::Range;
use crate::model::sync::SyncKind;
use crate::model::table::Object;

fn now(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn planned() -> Run {
    let spec = RunSpec {
        connection: ConnectionId(Uuid::nil()),
        sync: SyncId::new(Object::Events, SyncKind::Periodic),
        sequence: 1,
        slice: Slice::new([(0, Range { start: 0, end: 10 })]),
        start: Checkpoint::default(),
        versions: VersionBounds::default(),
        filter: FilterSpec::default(),
        file_format: FileFormat::NdjsonGzip,
        frozen_at: now(0),
        reaches_end: true,
        replay: vec![],
    };
    Run::planned(RunId(Uuid::from_u128(7)), spec, now(0))
}

fn manifest(run: &Run, attempt: &str) -> Box<Manifest> {
    Box::new(Manifest {
        run: run.id,
        attempt: attempt.into(),
        slice: run.spec.slice.clone(),
        digest: run.spec.slice.digest(),
        reached: Checkpoint::default(),
        counts: Counts::default(),
        tables: BTreeMap::new(),
        files: vec![],
        file_format: FileFormat::NdjsonGzip,
        catalogue: BTreeMap::new(),
        frozen_at: now(0),
        settled: vec![],
    })
}

fn after(run: &Run, events: Vec<RunEvent>) -> Run {
    events.into_iter().fold(run.clone(), |run, event| run.apply(event, now(1), &RetryPolicy::default()).unwrap())
}

fn fail(code: ErrorCode) -> RunEvent {
    RunEvent::Failed { error: SyncError::new(code, Stage::Stage, "x") }
}

fn start(attempt: &str) -> RunEvent {
    RunEvent::StageStarted { attempt: attempt.into() }
}

#[test]
fn a_late_result_of_an_older_attempt_is_refused() {
    let run = after(&planned(), vec![start("a"), RunEvent::Interrupted, start("b")]);
    let late = RunEvent::StageDone { manifest: manifest(&run, "a") };
    assert!(run.apply(late, now(2), &RetryPolicy::default()).is_err());
}

#[test]
fn a_failed_commit_goes_on_as_committing_and_cannot_be_cancelled() {
    let run = planned();
    let run = after(
        &run,
        vec![start("a"), RunEvent::StageDone { manifest: manifest(&run, "a") }, RunEvent::CommitStarted, fail(ErrorCode::Unavailable)],
    );
    assert!(matches!(run.state, RunState::Waiting { phase: Phase::Commit(_), .. }));
    assert!(run.apply(RunEvent::Cancel, now(2), &RetryPolicy::default()).is_err());
    assert!(matches!(after(&run, vec![RunEvent::Woken]).state, RunState::Committing { .. }));
}

#[test]
fn a_lost_stage_is_staged_again_at_once() {
    let run = planned();
    let run = after(
        &run,
        vec![start("a"), RunEvent::StageDone { manifest: manifest(&run, "a") }, RunEvent::CommitStarted, fail(ErrorCode::StageLost)],
    );
    let RunState::Waiting { phase: Phase::Stage, until, .. } = run.state else { panic!("{:?}", run.state) };
    assert_eq!(until, now(1));
}

#[test]
fn only_a_person_ends_a_failure_that_only_a_person_can_fix() {
    let run = after(&planned(), vec![start("a"), fail(ErrorCode::AuthInvalid)]);
    assert!(matches!(run.state, RunState::Failed { .. }));
    assert!(run.apply(RunEvent::Woken, now(2), &RetryPolicy::default()).is_err());
    let run = after(&run, vec![RunEvent::Retry { accept_rejected: false }]);
    assert_eq!((run.state, run.failed_tries), (RunState::Planned, 0));
}

#[test]
fn backoff_ends_after_both_the_tries_and_the_patience() {
    let policy = RetryPolicy::default();
    let mut run = planned();
    let mut clock = 0;
    let mut tries = 0;
    loop {
        run = run.apply(start("a"), now(clock), &policy).unwrap();
        run = run.apply(fail(ErrorCode::Unavailable), now(clock), &policy).unwrap();
        tries += 1;
        match &run.state {
            RunState::Waiting { until, .. } => {
                let pause = until.as_second() - now(clock).as_second();
                assert!((24..=2160).contains(&pause), "{pause} s after {tries} tries");
                clock += pause;
                run = run.apply(RunEvent::Woken, now(clock), &policy).unwrap();
            }
            RunState::Failed { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(tries >= 10 && clock >= 3 * 60 * 60, "{tries} tries in {clock} s");
}

#[test]
fn versions_of_history_never_pass_those_of_live() {
    let history = VersionBounds { floor: None, cap: Some(100) };
    let live = VersionBounds { floor: Some(100), cap: None };
    assert_eq!((history.version(150), live.version(50)), (100, 100));
    assert_eq!((history.version(50), live.version(150)), (50, 150));
}

#[test]
fn runs_survive_storage() {
    let run = planned();
    let run = after(
        &run,
        vec![start("a"), RunEvent::StageDone { manifest: manifest(&run, "a") }, RunEvent::CommitStarted, fail(ErrorCode::Unavailable)],
    );
    let text = serde_json::to_string(&run).unwrap();
    assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), run);
}
