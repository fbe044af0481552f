//! The question whether a waiting agent lives: a request for a method that nobody has.
//!
//! Methods that begin with `_` are for extensions, and an agent answers one it doesn't know with "method not found" (ACP, "Extensibility"):
//! as good a sign of life as any. Agents on the TypeScript SDK, Gemini CLI among them, also complain about it on standard error, in a few
//! lines. That is our doing and nobody's news, so those lines are passed over.

/// The method.
pub(super) const PING: &str = "_greenroom/ping";
/// Most lines one complaint may have; what comes after them is heard again.
const COMPLAINT_LINES: usize = 8;

/// Knows complaints about our question.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// Lines that may still belong to the one that has begun.
    rest: usize,
}

impl Complaints {
    /// Whether this line of standard error is part of one. An error is printed as an object: from a line with the method's name and an open
    /// brace to a line that closes it.
    pub(super) fn take(&mut self, line: &str) -> bool {
        if self.rest > 0 {
            self.rest = if line == "}" { 0 } else { self.rest - 1 };
            return true;
        }
        let begins = line.contains(PING);
        if begins && line.ends_with('{') {
            self.rest = COMPLAINT_LINES;
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&'static str]) -> Vec<&'static str> {
        let mut complaints = Complaints::default();
        lines.iter().copied().filter(|line| !complaints.take(line)).collect()
    }

    #[test]
    fn the_complaint_of_gemini_cli_is_passed_over_and_nothing_else() {
        let lines = [
            "loaded",
            "Error handling request { jsonrpc: '2.0', id: 4, method: '_greenroom/ping', params: {} } {",
            "  code: -32601,",
            "  message: '\"Method not found\": _greenroom/ping',",
            "  data: { method: '_greenroom/ping' }",
            "}",
            "}",
            "unknown method _greenroom/ping",
            "still here",
        ];
        assert_eq!(heard(&lines), ["loaded", "}", "still here"]);
    }

    #[test]
    fn a_complaint_without_an_end_does_not_swallow_what_follows() {
        let mut lines = vec!["_greenroom/ping {"];
        lines.extend(["..."; COMPLAINT_LINES]);
        lines.push("news");
        assert_eq!(heard(&lines), ["news"]);
    }
}
