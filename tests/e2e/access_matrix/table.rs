//! What each operation is about: the one thing that the document doesn't say.

/// What another user meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// The path names something that belongs to somebody: not found, as if it had never been.
    NotFound,
    /// It shows what belongs to the caller: nothing of anybody else.
    OwnOnly,
    /// It shows or makes what has no owner but the caller.
    NobodysThings,
    /// Its scope keeps out everybody who has only things of their own.
    ForAdministrators,
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub operation: &'static str,
    pub other: Other,
    /// A body that would be accepted.
    pub body: &'static [u8],
    /// What its path names is found among the caller's own, whoever they are: an administrator has another of that name, or none.
    pub own_names: bool,
}

const fn with(operation: &'static str, other: Other, body: &'static str) -> Row {
    Row { operation, other, body: body.as_bytes(), own_names: false }
}

const fn without(operation: &'static str, other: Other) -> Row {
    with(operation, other, "")
}

const fn own(row: Row) -> Row {
    Row { own_names: true, ..row }
}

/// An archive with nothing in it.
const EMPTY_ARCHIVE: &[u8] = &[0; 1024];

/// All of them.
pub const TABLE: &[Row] = &[
    with("open_session", Other::NobodysThings, r#"{"template": "asking"}"#),
    without("list_sessions", Other::OwnOnly),
    without("get_session", Other::NotFound),
    with("change_session", Other::NotFound, r#"{"labels": {"taken": "over"}}"#),
    without("close_session", Other::NotFound),
    with("start_turn", Other::NotFound, r#"{"prompt": "true"}"#),
    without("get_turn", Other::NotFound),
    without("cancel_turn", Other::NotFound),
    with("chat", Other::NobodysThings, r#"{"prompt": "true"}"#),
    without("read_events", Other::NotFound),
    without("create_ticket", Other::NotFound),
    without("list_permissions", Other::NotFound),
    with("answer_permission", Other::NotFound, r#"{"option_id": "no"}"#),
    without("read_file", Other::NotFound),
    with("write_file", Other::NotFound, "taken over"),
    without("delete_file", Other::NotFound),
    without("read_archive", Other::NotFound),
    Row { operation: "write_archive", other: Other::NotFound, body: EMPTY_ARCHIVE, own_names: false },
    without("list_workspaces", Other::OwnOnly),
    own(without("delete_workspace", Other::NotFound)),
    without("list_templates", Other::NobodysThings),
    without("list_pools", Other::NobodysThings),
    without("get_me", Other::OwnOnly),
    without("list_credentials", Other::OwnOnly),
    // Whoever puts one has it among their own, whatever others call theirs.
    with("put_credential", Other::NobodysThings, r#"{"api_key": "a-key-of-somebody-else"}"#),
    own(without("delete_credential", Other::NotFound)),
    with("create_key", Other::ForAdministrators, r#"{"user": "alice", "scopes": ["admin"]}"#),
    without("list_keys", Other::ForAdministrators),
    without("revoke_key", Other::ForAdministrators),
];

/// What the table says of an operation.
pub fn row(operation: &str) -> &'static Row {
    TABLE.iter().find(|row| row.operation == operation).unwrap_or_else(|| panic!("{operation} is not in the table"))
}
