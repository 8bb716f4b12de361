//! Memory does not depend on the backlog, nor on the number of partitions.

use crate::support::broker::{Topics, now_ms};
use crate::support::process::{Installation, Running};
use crate::support::{long, wait_until};
use std::time::Duration;
use warehouse_sync::demo::sample::{EventShape, SampleRecord, write_event};
use warehouse_sync::model::Object;

/// Peak resident size of `run`, in MiB.
fn peak(installation: &Installation) -> f64 {
    let mut running: Running = installation.start(&["run"], &[]);
    let status = format!("/proc/{}/status", running.0.id());
    let mut peak = 0.0f64;
    wait_until("the run to end", Duration::from_secs(300), || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        peak = peak.max(kib.unwrap_or(0.0) / 1024.0);
        running.0.try_wait().unwrap().is_some()
    });
    assert!(running.0.wait().unwrap().success());
    peak
}

fn drain(partitions: i32, records: u64) -> f64 {
    let topics = Topics::make(partitions);
    topics.publish((0..records).map(|number| {
        let mut value = Vec::new();
        write_event(EventShape::LineItems, number, 1, now_ms(), &mut value);
        SampleRecord { object: Object::Events, key: Some(format!("{number}")), value: Some(value), timestamp: now_ms(), broken: None }
    }));
    let installation = Installation::new(&topics, None, "chunk_bytes = \"64MiB\"\nmax_part_bytes = \"4MiB\"\n");
    installation.write_connection("objects = [\"events\"]", "ndjson.zst");
    installation.connect(&[]);
    let peak = peak(&installation);
    installation.verify();
    peak
}

#[test]
fn a_backlog_ten_times_larger_needs_no_more_memory() {
    let (small, large) = (drain(2, 20_000), drain(2, 200_000));
    println!("peak resident size: {small:.0} MiB for 20 MB, {large:.0} MiB for 200 MB of records");
    assert!(large < 150.0 && large < small + 60.0, "{small:.0} MiB grew to {large:.0} MiB");
}

#[test]
fn many_partitions_need_no_more_memory() {
    let partitions = if long() { 2_000 } else { 300 };
    let peak = drain(partitions, 40_000);
    println!("peak resident size: {peak:.0} MiB with {partitions} partitions");
    assert!(peak < 150.0, "{peak:.0} MiB");
}
