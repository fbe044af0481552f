//! Finds the places of a request's limit and writes another number there. The request is known to be JSON.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{limit_keys, limit_object};
use crate::config::ApiForm;

/// A piece of the request, from and to, and what stands there instead.
type Edit = (usize, usize, String);

/// The request with this limit in place of its own, or in addition where it has none.
pub(in crate::gateway) fn lower(form: ApiForm, path: &str, body: &Bytes, limit: u64) -> Bytes {
    let keys = limit_keys(form, path);
    let (settings, number) = (limit_object(form), limit.to_string());
    let mut edits: Vec<Edit> = Vec::new();
    let lower_in = |at: usize, edits: &mut Vec<Edit>| {
        let object = Object::at(body, at);
        let begin = object.begin;
        let found: Vec<_> = object.filter(|member| keys.contains(&member.key.as_str())).collect();
        if found.is_empty() {
            edits.push((begin, begin, format!("\"{}\":{number}{}", keys[0], comma(body, begin))));
        }
        edits.extend(found.into_iter().map(|member| (member.from, member.to, number.clone())));
    };
    if settings.is_empty() {
        lower_in(0, &mut edits);
    } else {
        let object = format!("{{\"{}\":{number}}}", keys[0]);
        // Of an object that is written twice some parser may take either.
        let found: Vec<_> = Object::at(body, 0).filter(|member| settings.contains(&member.key.as_str())).collect();
        let begin = Object::at(body, 0).begin;
        if found.is_empty() {
            edits.push((begin, begin, format!("\"{}\":{object}{}", settings[0], comma(body, begin))));
        }
        for member in found {
            if member.is_object(body) {
                lower_in(member.from, &mut edits);
            } else {
                edits.push((member.from, member.to, object.clone()));
            }
        }
    }
    let mut written = BytesMut::with_capacity(body.len() + 64);
    let mut taken = 0;
    for (from, to, text) in edits {
        written.put_slice(&body[taken..from]);
        written.put_slice(text.as_bytes());
        taken = to;
    }
    written.put_slice(&body[taken..]);
    written.freeze()
}

/// What follows a member that is put at the beginning of an object.
fn comma(body: &[u8], begin: usize) -> &'static str {
    if body[skip_blank(body, begin)..].starts_with(b"}") { "" } else { "," }
}

/// One member of an object, and where its value is.
struct Member {
    key: String,
    from: usize,
    to: usize,
}

impl Member {
    fn is_object(&self, body: &[u8]) -> bool {
        body[self.from..].starts_with(b"{")
    }
}

/// Goes through an object's members.
struct Object<'a> {
    body: &'a [u8],
    /// Behind its brace.
    begin: usize,
    at: usize,
}

impl<'a> Object<'a> {
    fn at(body: &'a [u8], at: usize) -> Self {
        let begin = skip_blank(body, at) + 1;
        Self { body, begin, at: begin }
    }
}

impl Iterator for Object<'_> {
    type Item = Member;

    fn next(&mut self) -> Option<Member> {
        let body = self.body;
        let mut key = skip_blank(body, self.at);
        if body.get(key) == Some(&b',') {
            key = skip_blank(body, key + 1);
        }
        if body.get(key) != Some(&b'"') {
            return None;
        }
        let end = skip_string(body, key);
        let colon = skip_blank(body, end);
        let from = skip_blank(body, colon + 1);
        let to = skip_value(body, from);
        self.at = to;
        let key = serde_json::from_slice(&body[key..end]).ok()?;
        Some(Member { key, from, to })
    }
}

fn skip_blank(body: &[u8], at: usize) -> usize {
    at + body[at.min(body.len())..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Behind the string that begins here.
fn skip_string(body: &[u8], at: usize) -> usize {
    let mut escaped = false;
    let mut end = at + 1;
    while let Some(byte) = body.get(end) {
        end += 1;
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => break,
            _ => {}
        }
    }
    end
}

/// Behind the value that begins here.
fn skip_value(body: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut end = at;
    while let Some(byte) = body.get(end) {
        match byte {
            b'"' => {
                end = skip_string(body, end);
                if depth == 0 {
                    return end;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return end,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return end + 1;
                }
            }
            b',' if depth == 0 => return end,
            byte if depth == 0 && byte.is_ascii_whitespace() => return end,
            _ => {}
        }
        end += 1;
    }
    end
}
