//! Who answers sysinfo(2). Pure.

use oci_spec::runtime::Spec;

use super::super::OciError;
use super::super::seccomp::{self, Filter};

/// Annotation that leaves it to the kernel.
const ANNOTATION: &str = "io.ownproc.sysinfo";

/// The filter of a container's processes that also sends sysinfo(2) to a listener. `None`: it is left to the kernel, since the
/// annotation or the profile says so.
pub fn filter(spec: &Spec) -> Result<Option<Filter>, OciError> {
    let annotation = spec.annotations().as_ref().and_then(|all| all.get(ANNOTATION)).map(String::as_str);
    match annotation {
        None | Some("view") => {}
        Some("kernel") => return Ok(None),
        Some(other) => {
            let what = format!("{other:?} is neither view nor kernel");
            return Err(OciError::config(format!("annotations.{ANNOTATION}"), what));
        }
    }
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    Ok(seccomp::with_sysinfo(profile))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(annotation: Option<&str>, profile: Option<serde_json::Value>) -> Spec {
        let mut value = json!({ "ociVersion": "1.0.2", "linux": {} });
        if let Some(annotation) = annotation {
            value["annotations"] = json!({ ANNOTATION: annotation });
        }
        if let Some(profile) = profile {
            value["linux"]["seccomp"] = profile;
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_annotation_decides() {
        assert!(filter(&spec(None, None)).unwrap().is_some());
        assert!(filter(&spec(Some("view"), None)).unwrap().is_some());
        assert!(filter(&spec(Some("kernel"), None)).unwrap().is_none());
        let error = filter(&spec(Some("host"), None)).unwrap_err().to_string();
        assert!(error.contains("annotations.io.ownproc.sysinfo") && error.contains("kernel"), "{error}");
    }
}
