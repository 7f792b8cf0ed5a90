//! A bundle: a directory with config.json and, most times, the container's root.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::OciError;

/// Largest configuration that is read, in bytes. podman's are below 64 KiB.
const LARGEST: u64 = 16 << 20;

/// What was read.
#[derive(Debug)]
pub struct Bundle {
    /// Absolute.
    pub path: PathBuf,
    /// config.json.
    pub spec: Spec,
}

impl Bundle {
    /// Reads `DIR/config.json`.
    pub fn open(dir: &Path) -> Result<Self, OciError> {
        let path =
            std::fs::canonicalize(dir).map_err(|source| OciError::io("find the bundle", dir, source))?;
        let file = path.join("config.json");
        if !file.exists() {
            return Err(OciError::NoBundle(path));
        }
        let spec = read(&file)?;
        Ok(Self { path, spec })
    }
}

/// Reads a part of a configuration from a file.
pub fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, OciError> {
    let fail = |source| OciError::io("read", path, source);
    let mut text = Vec::new();
    File::open(path).map_err(fail)?.take(LARGEST + 1).read_to_end(&mut text).map_err(fail)?;
    if text.len() as u64 > LARGEST {
        return Err(OciError::config(path.display().to_string(), "longer than 16 MiB"));
    }
    parse(&text, path)
}

/// Understands it; the error names line and column.
pub fn parse<T: serde::de::DeserializeOwned>(text: &[u8], path: &Path) -> Result<T, OciError> {
    serde_json::from_slice(text).map_err(|source| OciError::Json { path: path.to_owned(), source })
}
