//! The layers, enforced: a file imports only from lower-numbered layers, and siblings of the second
//! layer do not know each other.

use std::path::{Path, PathBuf};

/// Layer of each top-level module.
const LAYERS: &[(&str, u8)] = &[
    ("model", 0),
    ("boundary", 1),
    ("clock", 1),
    ("config", 1),
    ("lease", 1),
    ("telemetry", 1),
    ("destination", 2),
    ("encode", 2),
    ("record", 2),
    ("source", 2),
    ("store", 2),
    ("engine", 3),
    ("control", 4),
    ("cli", 5),
    ("demo", 5),
    ("http", 5),
];

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn imports_point_to_lower_layers() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut imports = 0;
    for file in files(&source) {
        let inside = file.strip_prefix(&source).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        if first == "main" || first == "lib" {
            continue;
        }
        let own = layer(&first).unwrap_or_else(|| panic!("{first} has no layer: add it to LAYERS"));
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            for rest in line.split("crate::").skip(1) {
                let module: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                let Some(other) = layer(&module) else { continue };
                imports += 1;
                let same_module = module == first;
                let allowed = same_module || other < own || (own == other && own != 2);
                if !allowed {
                    wrong.push(format!("{}:{} imports {module}", inside.display(), number + 1));
                }
            }
        }
    }
    assert!(imports > 100, "only {imports} imports were seen: does this test still read the sources?");
    assert!(wrong.is_empty(), "imports against the layers:\n{}", wrong.join("\n"));
}

#[test]
fn the_protocol_passes_every_boundary_that_it_names() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let all: String = files(&source).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    for name in warehouse_sync::boundary::BOUNDARIES {
        assert!(all.contains(&format!("boundary(\"{name}\")")), "no code passes the boundary {name}");
    }
}
