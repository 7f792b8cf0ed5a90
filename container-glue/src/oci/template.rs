//! `spec`: a configuration to begin with.

use oci_spec::runtime::Spec;

use super::args::SpecArgs;
use super::{OciError, inspect};

/// Writes DIR/config.json, which must not be there yet.
pub fn write(args: &SpecArgs) -> Result<(), OciError> {
    let path = args.bundle.join("config.json");
    let mut spec = Spec::default();
    spec.set_version(inspect::OCI_VERSION.to_owned());
    let mut text = serde_json::to_string_pretty(&spec)
        .map_err(|source| OciError::Json { path: path.clone(), source })?;
    text.push('\n');
    let file = std::fs::File::options().write(true).create_new(true).open(&path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|source| OciError::io("write", path, source))
}
