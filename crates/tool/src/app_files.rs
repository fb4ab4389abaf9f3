//! The app's `host.json` and functions: those of the package that the program lies in, or, anywhere else, those
//! that it was built with.

use std::path::Path;

use portcullis_sandbox::host::HostFiles;

const HOST_JSON: &str = include_str!("../../../host.json");

/// Every function with its `function.json`.
const FUNCTIONS: [(&str, &str); 7] = [
    ("alert", include_str!("../../../functions/alert/function.json")),
    ("api", include_str!("../../../functions/api/function.json")),
    ("approval", include_str!("../../../functions/approval/function.json")),
    ("jit_activity", include_str!("../../../functions/jit_activity/function.json")),
    ("schedule", include_str!("../../../functions/schedule/function.json")),
    ("sweep", include_str!("../../../functions/sweep/function.json")),
    ("sweep_shard", include_str!("../../../functions/sweep_shard/function.json")),
];

/// The files of the app whose handler lies in `folder`.
pub fn beside(folder: &Path) -> anyhow::Result<HostFiles> {
    if folder.join("host.json").is_file() {
        return Ok(HostFiles::read(folder)?);
    }
    Ok(HostFiles {
        root: folder.to_owned(),
        host_json: HOST_JSON.to_owned(),
        functions: FUNCTIONS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_files_are_those_of_the_source_tree() {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let of_tree = HostFiles::read(&tree).unwrap();
        let built_in = beside(Path::new("/nowhere")).unwrap();
        assert_eq!(built_in.host_json, of_tree.host_json);
        assert_eq!(built_in.functions, of_tree.functions);
    }
}
