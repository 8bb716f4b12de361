//! What readers see: the rows of a table on a folder or a bucket, read without the code under test
//! wherever that is possible (plain listing, plain gunzip, plain JSON).

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt as _};
use serde_json::{Map, Value};

/// A row as JSON.
pub type Row = Map<String, Value>;

/// A place where tables lie.
#[derive(Clone)]
pub enum Lake {
    /// A local folder.
    Folder(std::path::PathBuf),
    /// A prefix in the test bucket.
    S3 {
        /// Folder within the bucket.
        prefix: String,
    },
}

impl Lake {
    /// A fresh folder below `base`.
    pub fn folder(base: &std::path::Path) -> Self {
        Lake::Folder(base.join("lake"))
    }

    /// A fresh prefix in the test bucket.
    pub fn s3() -> Self {
        Lake::S3 { prefix: format!("t/{}", uuid::Uuid::now_v7().simple()) }
    }

    /// The `[destination]` of a connection file.
    pub fn settings(&self, format: &str) -> String {
        match self {
            Lake::Folder(path) => format!("[destination]\ntype = \"folder\"\npath = \"{}\"\nformat = \"{format}\"\n", path.display()),
            Lake::S3 { prefix } => format!(
                "[destination]\ntype = \"s3\"\nbucket = \"test-bucket\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\naccess_key_id = \"env:WAREHOUSE_SYNC_TEST_S3_KEY\"\nsecret_access_key = \"env:WAREHOUSE_SYNC_TEST_S3_SECRET\"\nprefix = \"{prefix}\"\nformat = \"{format}\"\n",
                super::variable("WAREHOUSE_SYNC_TEST_S3")
            ),
        }
    }

    /// The store, and the prefix below which everything lies.
    pub fn store(&self) -> (Arc<dyn ObjectStore>, String) {
        match self {
            Lake::Folder(path) => {
                std::fs::create_dir_all(path).unwrap();
                (Arc::new(LocalFileSystem::new_with_prefix(path).unwrap()), String::new())
            }
            Lake::S3 { prefix } => {
                let store = AmazonS3Builder::new()
                    .with_endpoint(super::variable("WAREHOUSE_SYNC_TEST_S3"))
                    .with_allow_http(true)
                    .with_bucket_name("test-bucket")
                    .with_region("us-east-1")
                    .with_access_key_id(super::variable("WAREHOUSE_SYNC_TEST_S3_KEY"))
                    .with_secret_access_key(super::variable("WAREHOUSE_SYNC_TEST_S3_SECRET"))
                    .build()
                    .unwrap();
                (Arc::new(store), format!("{prefix}/"))
            }
        }
    }

    /// The names of all objects below a folder, relative to the lake.
    pub async fn names(&self, folder: &str) -> Vec<String> {
        let (store, prefix) = self.store();
        let path = object_store::path::Path::from(format!("{prefix}{folder}"));
        let found: Vec<_> = store.list(Some(&path)).try_collect().await.unwrap();
        let mut names: Vec<String> = found.into_iter().map(|object| object.location.to_string()[prefix.len()..].to_owned()).collect();
        names.sort();
        names
    }

    /// Every version of every row of a table, in no order.
    pub async fn versions(&self, table: &str) -> Vec<Row> {
        let (store, prefix) = self.store();
        let mut rows = Vec::new();
        for name in self.names(table).await {
            let content = store.get(&format!("{prefix}{name}").into()).await.unwrap().bytes().await.unwrap();
            if name.ends_with(".parquet") {
                let file = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(file.path(), &content).unwrap();
                warehouse_sync::encode::rows(file.path(), warehouse_sync::model::FileFormat::Parquet, &mut |row| {
                    rows.push(row);
                    Ok(())
                })
                .unwrap();
                continue;
            }
            let mut text = String::new();
            if name.ends_with(".zst") {
                zstd::stream::read::Decoder::new(&content[..]).unwrap().read_to_string(&mut text).unwrap();
            } else {
                flate2::read::MultiGzDecoder::new(&content[..]).read_to_string(&mut text).unwrap();
            }
            rows.extend(text.lines().map(|line| serde_json::from_str::<Row>(line).unwrap()));
        }
        rows
    }

    /// How often each (partition, offset) stands in a table: the multiset that must equal the input.
    pub async fn places(&self, table: &str) -> BTreeMap<(i64, i64), usize> {
        let mut places = BTreeMap::new();
        for row in self.versions(table).await {
            *places.entry((integer(&row, "_partition"), integer(&row, "_offset"))).or_default() += 1;
        }
        places
    }

    /// The newest row of every id that is not deleted.
    pub async fn newest(&self, table: &str) -> BTreeMap<String, Row> {
        let mut newest: BTreeMap<String, Row> = BTreeMap::new();
        let order = |row: &Row| (integer(row, "_version"), integer(row, "_partition"), integer(row, "_offset"));
        for row in self.versions(table).await {
            let id = row["id"].as_str().unwrap().to_owned();
            if newest.get(&id).is_none_or(|other| order(other) < order(&row)) {
                newest.insert(id, row);
            }
        }
        newest.retain(|_, row| row["_deleted"] == Value::Bool(false));
        newest
    }
}

/// An integer column.
pub fn integer(row: &Row, column: &str) -> i64 {
    row[column].as_i64().unwrap_or_else(|| panic!("{column} of {row:?}"))
}
