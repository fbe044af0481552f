//! The kinds of bytes that go through this door as they are.

use poem_openapi::registry::{MetaMediaType, MetaSchema, MetaSchemaRef};

/// A kind of bytes.
pub(super) trait Media: Send + Sync + 'static {
    /// As it is named.
    const TYPE: &'static str;
    /// What a browser does with it: keep it, under the path's last name or a better one.
    const DISPOSITION: &'static str = "attachment";

    /// As the document has it.
    fn described() -> Vec<MetaMediaType> {
        vec![MetaMediaType { content_type: Self::TYPE, schema: bytes() }]
    }

    /// Whether a client may call it so.
    fn is_called(_name: &str) -> bool {
        true
    }
}

/// Any file: what a client calls it is passed over.
pub(super) struct Octets;

impl Media for Octets {
    const TYPE: &'static str = "application/octet-stream";
}

/// A tar archive.
pub(super) struct Tar;

impl Media for Tar {
    const TYPE: &'static str = "application/x-tar";
    const DISPOSITION: &'static str = "attachment; filename=\"workspace.tar\"";

    fn is_called(name: &str) -> bool {
        let name = name.split(';').next().unwrap_or_default().trim();
        ["application/x-tar", "application/tar", "application/octet-stream"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    }
}

/// Bytes, in the document's words.
pub(super) fn bytes() -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "binary")))
}
