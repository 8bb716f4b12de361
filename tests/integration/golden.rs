//! What is stored in customers' warehouses is read for years: these files must be understood by every
//! later version, and come out as they went in. A changed form needs a new file here and a new format number.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use warehouse_sync::model::{Genesis, LedgerEntry};

fn unchanged<T: Serialize + DeserializeOwned>(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let value: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name} is not understood any more: {error}"));
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_value(&value).unwrap(), expected, "{name} is written differently now");
}

#[test]
fn ledger_objects_keep_their_form() {
    unchanged::<Genesis>("genesis.json");
    unchanged::<LedgerEntry>("ledger_entry_run.json");
    unchanged::<LedgerEntry>("ledger_entry_skip.json");
    unchanged::<LedgerEntry>("ledger_entry_closed.json");
}
