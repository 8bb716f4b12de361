//! What people and programs see: tables for the one, JSON for the other.

use std::io::IsTerminal as _;

use comfy_table::{ContentArrangement, Table, presets};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::destination::{CheckOutcome, CheckStep};
use crate::model::{Certificate, ErrorCode, Stage, SyncError};

/// Columns that a terminal needs for tables with lines.
const NARROWEST: u16 = 60;

/// Prints a failure with what can be done about it.
pub fn error(error: &SyncError) {
    eprintln!("error: {} [{}]", error.summary, error.code);
    if let Some(external) = &error.external {
        eprintln!("  said:     {external}");
    }
    eprintln!("  who acts: {}", error.blame.who_must_act());
    eprintln!("  what to do: {}", error.hint);
}

/// Prints a value as JSON.
pub fn json(value: &impl Serialize) -> Result<(), SyncError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| SyncError::internal(Stage::Verify, "a value cannot be printed").external(error))?;
    print(&format!("{text}\n"))
}

/// Prints to standard output. A reader that has closed its end (`| head`) is no failure.
pub fn print(text: &str) -> Result<(), SyncError> {
    use std::io::Write as _;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(SyncError::new(ErrorCode::LocalDisk, Stage::Verify, "standard output cannot be written").external(error))
        }
        _ => Ok(()),
    }
}

/// A table: with lines on a terminal, plain columns when piped.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.set_header(header);
    table.add_rows(rows);
    // A very narrow terminal, or one that does not tell its width, is served better by long lines.
    if std::io::stdout().is_terminal() && table.width().is_some_and(|width| width >= NARROWEST) {
        table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    }
    format!("{table}\n")
}

/// The steps of a check.
pub fn steps(steps: &[CheckStep]) -> Result<(), SyncError> {
    for step in steps {
        let mark = match step.outcome {
            CheckOutcome::Passed => "passed ",
            CheckOutcome::Failed => "FAILED ",
            CheckOutcome::Skipped => "skipped",
        };
        print(&format!("  {mark}  {}\n", step.name))?;
        if let Some(error) = &step.error {
            let external = error.external.as_ref().map(|external| format!("           said: {external}\n")).unwrap_or_default();
            print(&format!("           {} [{}]\n{external}           what to do: {}\n", error.summary, error.code, error.hint))?;
        }
    }
    Ok(())
}

/// A run's certificate, for people.
pub fn certificate(certificate: &Certificate) -> String {
    let counts = &certificate.counts;
    let reasons = |map: &std::collections::BTreeMap<String, u64>| match map.is_empty() {
        true => String::new(),
        false => format!(" ({})", map.iter().map(|(reason, number)| format!("{reason} {}", count(*number))).collect::<Vec<_>>().join(", ")),
    };
    let receipt = &certificate.receipt;
    let mut rows = vec![
        ("Run", format!("{} — {} no. {}", certificate.run, certificate.sync, certificate.sequence)),
        (
            "Offsets",
            format!(
                "{} in {} partitions, digest {}",
                count(certificate.slice.offsets()),
                certificate.slice.partitions(),
                certificate.digest
            ),
        ),
        ("Read", count(counts.read)),
        ("= Staged", format!("{} ({} deletions)", count(counts.staged), count(counts.deleted))),
        ("+ Filtered", format!("{}{}", count(counts.filtered_total()), reasons(&counts.filtered))),
        ("+ Rejected", format!("{}{}", count(counts.rejected_total()), reasons(&counts.rejected))),
        (
            "Destination",
            format!("{} inserted, {} updated, {} superseded", count(receipt.inserted), count(receipt.updated), count(receipt.superseded)),
        ),
        ("Files", format!("{}, {}", certificate.files, bytes(certificate.file_bytes))),
    ];
    for (table, totals) in &certificate.tables {
        rows.push(("Checksum", format!("{table}: {} rows, {}", count(totals.rows), totals.checksum)));
    }
    rows.push(("Frozen", time(Some(certificate.frozen_at))));
    rows.push(("Committed", format!("{}, after {} failed tries", time(Some(certificate.committed_at)), certificate.failed_tries)));
    table(&["Certificate", ""], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

/// A number with thousands apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes.
pub fn bytes(number: u64) -> String {
    bytesize::ByteSize(number).to_string()
}

/// A time, to the second.
pub fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "–".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// A duration, roughly: the two largest units.
pub fn duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!(["0", "999", "1,000", "1,234,567"].map(str::to_owned), [0, 999, 1000, 1_234_567].map(count));
        assert_eq!(duration(SignedDuration::from_secs(3700)), "1 h 1 min");
    }
}
