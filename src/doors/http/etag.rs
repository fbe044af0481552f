//! Versions of what can be changed, as HTTP tells them: `ETag` and `If-Match` (RFC 9110, 8.8.3 and 13.1.1).

use poem::{
    Request, RequestBody, Result,
    http::{HeaderMap, header::IF_MATCH},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaParamIn, MetaSchemaRef},
    types::Type,
};

use super::refusal::Refusal;
use crate::problem::{Code, Problem};

/// The tag of a version. Strong: what has it is the same in all that can be changed.
pub(in crate::doors) fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

/// The versions a change is meant for; none: whatever it is.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::doors) struct IfMatch(pub(in crate::doors) Option<Vec<u64>>);

impl<'a> ApiExtractor<'a> for IfMatch {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];

    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(String::schema_ref())
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> Result<Self> {
        let unclear = || Problem::new(Code::InvalidRequest, "If-Match: must be * or a list of ETags, each in quotes");
        Ok(Self::of(request.headers()).ok_or_else(|| Refusal(unclear()))?)
    }
}

impl IfMatch {
    /// None: it can't be understood. A condition that is there and can't be read must not be taken for none.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let lines: Vec<_> = headers.get_all(IF_MATCH).iter().map(|line| line.as_bytes().trim_ascii()).collect();
        match lines.as_slice() {
            [] | [b"*"] => Some(Self(None)),
            lines => Some(Self(Some(versions(&lines.join(&b","[..]))?))),
        }
    }
}

/// The versions named in a list of entity tags. Tags that aren't ours, and weak ones, match nothing.
fn versions(mut list: &[u8]) -> Option<Vec<u64>> {
    let mut versions = Vec::new();
    loop {
        list = list.trim_ascii_start();
        // A list may have empty places (RFC 9110, 5.6.1).
        match list {
            [] => return Some(versions),
            [b',', rest @ ..] => {
                list = rest;
                continue;
            }
            _ => {}
        }
        let (weak, quoted) = list.strip_prefix(b"W/").map_or((false, list), |rest| (true, rest));
        let open = quoted.strip_prefix(b"\"")?;
        let end = open.iter().position(|byte| *byte == b'"')?;
        let (tag, rest) = (&open[..end], open[end + 1..].trim_ascii_start());
        // %x21, %x23-7E and beyond ASCII.
        if tag.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) || !matches!(rest, [] | [b',', ..]) {
            return None;
        }
        let text = std::str::from_utf8(tag).unwrap_or_default();
        let ours = text.parse::<u64>().ok().filter(|version| version.to_string() == text);
        versions.extend(ours.filter(|_| !weak));
        list = rest;
    }
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&[u8]]) -> Option<IfMatch> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(IF_MATCH, HeaderValue::from_bytes(line).expect("a header's value"));
        }
        IfMatch::of(&headers)
    }

    #[test]
    fn no_condition_and_a_star_fit_whatever_is_there() {
        assert_eq!(of(&[]), Some(IfMatch(None)));
        assert_eq!(of(&[b" * "]), Some(IfMatch(None)));
    }

    #[test]
    fn a_list_names_the_versions_that_fit_and_weak_or_foreign_tags_fit_nothing() {
        let cases: [(&[&[u8]], &[u64]); 9] = [
            (&[br#""3""#], &[3]),
            (&[br#""3","4" , "18446744073709551615""#], &[3, 4, u64::MAX]),
            (&[br#""3""#, br#""5""#], &[3, 5]),
            (&[br#",, "3" ,"#], &[3]),
            (&[br#"W/"3""#], &[]),
            (&[br#"W/"3", "4""#], &[4]),
            (&[br#""03", "+3", "", "three", "a,b", "*""#], &[]),
            (&[b"\"\xe9\", \"7\""], &[7]),
            (&[b""], &[]),
        ];
        for (lines, versions) in cases {
            assert_eq!(of(lines), Some(IfMatch(Some(versions.to_vec()))), "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused_and_not_passed_over() {
        let cases: [&[&[u8]]; 9] = [
            &[b"3"],
            &[br#""3"#],
            &[br#"3""#],
            &[br#""3" "4""#],
            &[br#"*, "3""#],
            &[b"*", b"*"],
            &[br#"w/"3""#],
            &[br#""a b""#],
            &[b"\xe9"],
        ];
        for lines in cases {
            assert_eq!(of(lines), None, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_and_our_own_tags_are_found(
            bytes in prop::collection::vec(any::<u8>(), 0..64), own in prop::collection::vec(any::<u64>(), 0..5)
        ) {
            let _read_or_refused = versions(&bytes);
            let list = own.iter().map(|version| etag(*version)).collect::<Vec<_>>().join(" ,\t");
            prop_assert_eq!(versions(list.as_bytes()), Some(own));
        }
    }
}
