//! The statements of `sql/s3/duckdb.sql`, run by DuckDB on what the engine wrote.

use std::process::Command;

use warehouse_sync::demo::sample::{Shop, ShopSettings};

use crate::support::broker::{Topics, now_ms, tombstone};
use crate::support::process::{Installation, text};
use crate::support::variable;
use warehouse_sync::model::Object;

fn query(database: &std::path::Path, sql: &str) -> Vec<serde_json::Value> {
    let output = Command::new(variable("WAREHOUSE_SYNC_TEST_DUCKDB")).arg(database).arg(sql).output().unwrap();
    assert!(output.status.success(), "{sql}\n{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_views_show_the_newest_undeleted_row_of_every_id() {
    let topics = Topics::make(2);
    let mut shop = Shop::new(ShopSettings { seed: 9, profiles: 100, events: 2_000, until: now_ms() - 10_000, days: 365 });
    topics.publish(shop.metrics());
    topics.publish(shop.by_ref());
    topics.publish([tombstone(Object::Metrics, "nothing", now_ms())]);
    let installation = Installation::new(&topics, None, "max_part_bytes = \"128KiB\"\n");
    installation.connect(&[]);
    installation.run(&["run"]);
    let location = installation.folder.path().join("lake").display().to_string();
    let statements = include_str!("../../sql/s3/duckdb.sql").replace("{{location}}", &location);
    let database = installation.folder.path().join("duck.db");
    for object in Object::ALL {
        let table = object.table().name();
        let newest = installation.lake.newest(table).await;
        let rows = query(&database, &format!("{statements}\nSELECT count(*) AS rows, count(DISTINCT id) AS ids FROM {table};"));
        assert_eq!((&rows[0]["rows"], &rows[0]["ids"]), (&newest.len().into(), &newest.len().into()), "{table}");
        let committed = query(&database, &format!("{statements}\nSELECT count(*) AS rows FROM {table}_committed;"));
        assert_eq!(committed[0]["rows"], newest.len(), "{table}: every run is whole");
    }
    let rejected = query(&database, &format!("{statements}\nSELECT count(*) AS rows FROM klaviyo_rejected;"));
    assert_eq!(rejected[0]["rows"], installation.lake.versions("klaviyo_rejected").await.len());
}
