//! A page for each code that Votum prints: what it means, what is safe, what to do.

mod agent;
mod alarms;
mod coordinator;
mod log;
mod preflight;

use serde::Serialize;

/// What is to be said of one code. Each field is one or more whole sentences.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    /// `VOTUM-…`.
    pub(crate) code: &'static str,
    /// What happened.
    pub(crate) title: &'static str,
    /// What it means for the transactions.
    pub(crate) meaning: &'static str,
    /// What is most often behind it.
    pub(crate) cause: &'static str,
    /// What cannot go wrong meanwhile.
    pub(crate) safe: &'static str,
    /// What to do.
    pub(crate) remedy: &'static str,
}

/// Every page, by code.
pub(crate) fn pages() -> impl Iterator<Item = &'static Page> {
    let rooms = [coordinator::PAGES, log::PAGES, alarms::PAGES, agent::PAGES, preflight::PAGES];
    rooms.into_iter().flatten()
}

/// The page of a code, typed as `VOTUM-1402`, `votum-1402` or `1402`.
pub(crate) fn page(typed: &str) -> Option<&'static Page> {
    let code = typed.to_ascii_uppercase();
    let number = code.strip_prefix("VOTUM-").unwrap_or(&code);
    pages().find(|page| page.code.strip_prefix("VOTUM-") == Some(number))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Every `VOTUM-` with four digits in the sources below `folder`.
    fn codes_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                codes_in(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for (at, _) in text.match_indices("VOTUM-") {
                    let code: String = text[at..].chars().take("VOTUM-0000".len()).collect();
                    if code.chars().skip("VOTUM-".len()).filter(char::is_ascii_digit).count() == 4 {
                        found.insert(code);
                    }
                }
            }
        }
    }

    #[test]
    fn every_code_in_the_sources_has_a_page_and_every_page_is_of_a_code() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut used = BTreeSet::new();
        for part in ["proto/src", "coordinator/src", "participant/src", "client/src"] {
            codes_in(&root.join(part), &mut used);
        }
        assert!(used.len() > 20, "the search finds nothing: {used:?}");
        let explained: BTreeSet<String> = pages().map(|page| page.code.to_owned()).collect();
        assert_eq!(used, explained);
    }

    #[test]
    fn every_page_is_whole() {
        for page in pages() {
            assert!(!page.title.ends_with('.'), "{}", page.code);
            for sentence in [page.meaning, page.cause, page.safe, page.remedy] {
                assert!(sentence.ends_with('.') && sentence.contains(' '), "{}: {sentence:?}", page.code);
            }
        }
    }

    #[test]
    fn a_code_is_found_however_it_is_typed() {
        for typed in ["VOTUM-1402", "votum-1402", "1402"] {
            assert_eq!(page(typed).map(|page| page.code), Some("VOTUM-1402"), "{typed}");
        }
        assert!(page("VOTUM-9999").is_none() && page("").is_none());
    }
}
