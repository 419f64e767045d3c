//! What a target begins with besides its kept corpus.

use std::path::Path;

/// Writes `examples` to the folder that `VOTUM_EXAMPLES` names, which the fuzzer reads just after this.
pub(crate) fn with(examples: Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os("VOTUM_EXAMPLES") else { return };
    for (number, example) in examples.into_iter().enumerate() {
        let file = Path::new(&folder).join(format!("example-{number:03}"));
        if let Err(error) = std::fs::write(&file, example) {
            eprintln!("{}: {error}: the fuzzer begins without this example", file.display());
        }
    }
}
