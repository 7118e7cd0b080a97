use anyhow::Result;
use serde_json::Value;
use std::path::Path;
pub(crate) fn run(_d: &Path, _f: &Value) -> Result<()> {
    Ok(())
}
