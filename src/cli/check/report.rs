//! How the outcome of a check is printed: a table for people, JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::sandbox::verdict::{Row, Verdict};

/// Width of the first column, in characters.
const ABOUT_WIDTH: usize = 24;
/// Width of the verdict, in characters.
const VERDICT_WIDTH: usize = 17;

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The engine and its version.
    pub(super) engine: String,
    /// One row for each thing looked at.
    pub(super) rows: Vec<Row>,
}

impl Report {
    /// How many rows failed.
    pub(super) fn failed(&self) -> usize {
        self.rows.iter().filter(|row| row.verdict == Verdict::Failed).count()
    }

    /// For people: the verdict first, then what was found, and by whom.
    pub(super) fn table(&self) -> String {
        let mut text = format!("engine: {}\n\n", self.engine);
        for row in &self.rows {
            let _infallible = writeln!(
                text,
                "{:<VERDICT_WIDTH$} {:<ABOUT_WIDTH$} {}",
                row.verdict.to_string(),
                row.about,
                findings(row)
            );
        }
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == verdict).count();
        let _infallible = writeln!(
            text,
            "\n{} ok, {} can't be had here, {} failed",
            count(Verdict::Ok),
            count(Verdict::Unavailable),
            self.failed()
        );
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain data with text keys is always JSON");
        text.push('\n');
        text
    }
}

fn findings(row: &Row) -> String {
    let parts = [("asked for", &row.asked), ("engine", &row.engine), ("inside", &row.inside)];
    let told = parts.into_iter().filter(|(_, text)| !text.is_empty());
    let told: Vec<String> = told.map(|(who, text)| format!("{who}: {text}")).collect();
    // A single voice needs no name.
    match (row.asked.is_empty(), row.engine.is_empty(), row.inside.is_empty()) {
        (true, false, true) => row.engine.clone(),
        (true, true, false) => row.inside.clone(),
        _ => told.join(" · "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row = |about: &str, asked: &str, engine: &str, inside: &str, verdict| Row {
            about: about.to_owned(),
            asked: asked.to_owned(),
            engine: engine.to_owned(),
            inside: inside.to_owned(),
            verdict,
        };
        Report {
            engine: "Docker 20.10.24 (API 1.41)".to_owned(),
            rows: vec![
                row("disk quota", "", "none on overlay2", "", Verdict::Unavailable),
                row("network", "loopback only", "as asked", "lo", Verdict::Ok),
                row("root file system", "read-only", "as asked", "/ takes files", Verdict::Failed),
            ],
        }
    }

    #[test]
    fn a_table_says_what_was_asked_and_who_saw_what() {
        let expected = "\
engine: Docker 20.10.24 (API 1.41)

can't be had here disk quota               none on overlay2
ok                network                  asked for: loopback only · engine: as asked · inside: lo
FAIL              root file system         asked for: read-only · engine: as asked · inside: / takes files

1 ok, 1 can't be had here, 1 failed
";
        assert_eq!(report().table(), expected);
        assert_eq!(report().failed(), 1);
    }

    #[test]
    fn programs_get_the_same_rows() {
        let json: serde_json::Value = serde_json::from_str(&report().json()).expect("JSON");
        assert_eq!(json["rows"][2]["verdict"], "failed");
        assert_eq!(json["rows"][1]["inside"], "lo");
    }
}
