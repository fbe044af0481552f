//! A server with two users: Alice has one of each thing there is, Bob has a session and nothing else.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::document::Operation;
use crate::{
    client::{Client, Reply, id},
    house::House,
    provider::Provider,
    settings::{ALICE, BOB, BUSYBOX, Settings, quoted},
};

/// An agent that speaks just enough ACP to be prompted, and answers each prompt once it was allowed something.
const ASKING: &str = r#"while IFS= read -r line; do
id=$(echo "$line" | sed 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/')
case $line in
*'"initialize"'*) result='{"protocolVersion":1,"agentCapabilities":{},"authMethods":[]}' ;;
*'"session/new"'*) result='{"sessionId":"the-only-one"}' ;;
*'"session/prompt"'*)
    prompt=$id
    echo '{"jsonrpc":"2.0","id":7,"method":"session/request_permission","params":{"sessionId":"the-only-one","toolCall":{"toolCallId":"t","title":"write","kind":"edit","status":"pending"},"options":[{"optionId":"yes","name":"Yes","kind":"allow_once"},{"optionId":"no","name":"No","kind":"reject_once"}]}}'
    continue ;;
*'"method"'*) result='{}' ;;
*) id=$prompt result='{"stopReason":"end_turn"}' ;;
esac
echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":$result}"
done"#;

/// The workspace of Alice's session.
pub const WORKSPACE: &str = "workspace-of-alice";
/// A workspace of hers that no session holds.
pub const FREE_WORKSPACE: &str = "another-workspace-of-alice";
/// A file in the first.
const FILE: &str = "file-of-alice.txt";
/// A key of hers that the server keeps.
pub const CREDENTIAL: &str = "credential-of-alice-xx";
/// What she opened her session with.
pub const IDEMPOTENCY_KEY: &str = "the-same-key-for-two-users";

const READER: &str = "token-of-alice-that-may-only-read";
const ADMIN: &str = "token-of-an-administrator";

/// The values for the names in a path.
#[derive(Debug, Clone)]
pub struct Names {
    pub session: String,
    pub turn: String,
    pub permission: String,
    pub file: String,
    pub workspace: String,
    pub credential: String,
    pub key: String,
}

/// The house and what is in it.
pub struct Things {
    pub house: House,
    pub provider: Provider,
    alices: Names,
    bobs: Names,
}

/// How Alice opened her session.
pub fn wish_of_alice() -> Value {
    json!({"template": "asking", "workspace": WORKSPACE, "labels": {"label": "of-alice"}})
}

impl Things {
    pub async fn make() -> Self {
        let provider = Provider::start().await;
        let tokens = [
            format!(r#"{{user="alice",token="{ALICE}"}}"#),
            format!(r#"{{user="bob",token="{BOB}"}}"#),
            format!(r#"{{user="alice",token="{READER}",scopes=["read"]}}"#),
            format!(r#"{{user="root",token="{ADMIN}",scopes=["admin"]}}"#),
        ];
        let settings = Settings::new()
            .template("asking", BUSYBOX, &["sh", "-c", ASKING])
            .stock("asking", 2, 2)
            .unlimited()
            .set("auth", "tokens", &format!("[{}]", tokens.join(",")))
            .set("credentials", "store", "\"file\"")
            .set("credentials", "key", &quoted(&STANDARD.encode([7; 32])));
        let house = House::start(settings.set("auth", "issuers", &format!("[{}]", provider.setting("tests")))).await;
        let (alice, bob, admin) = (house.alice(), house.bob(), Client::new(house.address, Some(ADMIN)));

        let kept = format!("/v1/credentials/{CREDENTIAL}");
        let headers = [("content-type", "application/json")];
        let kept =
            alice.call(Method::PUT, &kept, &headers, json!({"api_key": "key-of-alice"}).to_string().into()).await;
        assert_eq!(kept.status, StatusCode::NO_CONTENT, "{}", kept.text());

        // A workspace of hers that is at home.
        let session = alice.open(json!({"template": "asking", "workspace": FREE_WORKSPACE})).await;
        put(&alice, &session).await;
        alice.close(&session).await;

        let headers = [("idempotency-key", IDEMPOTENCY_KEY)];
        let session = alice.post_with("/v1/sessions", &headers, &wish_of_alice()).await.expect(StatusCode::CREATED);
        put(&alice, &session).await;
        let mut turn = alice.prompt(&session, "something that nobody else may see").await;
        let asked = turn.up_to("permission.requested").await.pop().expect("the question");
        let alices = Names {
            session: id(&session).to_owned(),
            turn: asked.turn.clone().expect("a question belongs to a turn"),
            permission: asked.content["permission_id"].as_str().expect("it has an id").to_owned(),
            file: FILE.to_owned(),
            workspace: FREE_WORKSPACE.to_owned(),
            credential: CREDENTIAL.to_owned(),
            key: String::new(),
        };
        let key = admin.post("/v1/keys", &json!({"user": "alice", "name": "laptop"})).await.expect(StatusCode::CREATED);
        let alices = Names { key: id(&key).to_owned(), ..alices };
        let own = bob.open(json!({"template": "asking"})).await;
        let bobs = Names { session: id(&own).to_owned(), ..never_was() };
        let things = Self { house, provider, alices, bobs };
        things.assert_as_long();
        things
    }

    pub fn alice(&self) -> Client {
        self.house.alice()
    }

    pub fn bob(&self) -> Client {
        self.house.bob()
    }

    pub fn admin(&self) -> Client {
        Client::new(self.house.address, Some(ADMIN))
    }

    /// The client with the token of Alice's that allows the most below this scope.
    pub fn one_scope_below(&self, scope: &str) -> Client {
        match scope {
            "admin" => self.alice(),
            "sessions" => Client::new(self.house.address, Some(READER)),
            "read" => Client::new(
                self.house.address,
                Some(&self.provider.token(&json!({"sub": "alice", "scope": "profile email"}))),
            ),
            other => panic!("an unknown scope {other}"),
        }
    }

    pub fn session(&self) -> &str {
        &self.alices.session
    }

    pub const fn of_alice(&self) -> &Names {
        &self.alices
    }

    /// What in `never_was` would be of another length.
    fn assert_as_long(&self) {
        let all = |names: &Names| {
            [
                &names.session,
                &names.turn,
                &names.permission,
                &names.file,
                &names.workspace,
                &names.credential,
                &names.key,
            ]
            .map(String::len)
        };
        assert_eq!(all(&self.alices), all(&never_was()), "lengths of answers could not be compared");
    }

    pub const fn of_bob(&self) -> &Names {
        &self.bobs
    }

    /// The operation's path, with these names in it.
    pub fn path(&self, operation: &Operation, names: &Names) -> String {
        let path = &operation.path;
        let name = if path.contains("/credentials/") { &names.credential } else { &names.workspace };
        let id = if path.starts_with("/v1/keys/") { &names.key } else { &names.session };
        let filled = path
            .replace("{id}", id)
            .replace("{turn}", &names.turn)
            .replace("{permission}", &names.permission)
            .replace("{path}", &names.file)
            .replace("{name}", name);
        assert!(!filled.contains('{'), "what shall {path} name? Say so in `Names`");
        filled
    }

    /// All that Alice sees of her things, and the keys that let people in.
    pub async fn seen_by_alice(&self) -> Vec<String> {
        let session = format!("/v1/sessions/{}", self.session());
        let paths = [
            session.clone(),
            format!("{session}/turns/{}", self.alices.turn),
            format!("{session}/permissions"),
            format!("{session}/events?wait_s=0"),
            format!("{session}/files/"),
            format!("{session}/files/{FILE}"),
            "/v1/sessions".to_owned(),
            "/v1/workspaces".to_owned(),
            "/v1/credentials".to_owned(),
        ];
        let mut seen = Vec::new();
        for path in paths {
            let reply = self.alice().call(Method::GET, &path, &[("accept", "application/json")], Bytes::new()).await;
            assert!(reply.status.is_success(), "{path}: {reply:?}");
            seen.push(format!("{path}: {}", reply.text()));
        }
        seen.push(self.admin().get("/v1/keys").await.text());
        seen
    }

    /// Whatever names Alice's things isn't in this answer.
    #[track_caller]
    pub fn assert_nothing_of_alices_in(&self, what: &str, reply: &Reply) {
        let said = format!("{:?} {}", reply.headers, reply.text());
        let Names { session, turn, permission, file, workspace, credential, key } = &self.alices;
        for name in [session, turn, permission, file, workspace, credential, key, WORKSPACE, "of-alice"] {
            assert!(!said.contains(name), "{what} tells of {name}: {said}");
        }
    }
}

/// Names that nobody ever gave or got, as long as those that somebody did.
pub fn never_was() -> Names {
    let id = |prefix: &str| format!("{prefix}_{}", "0123456789abcdef".repeat(2));
    Names {
        session: id("ses"),
        turn: id("turn"),
        permission: id("perm"),
        file: "never-was-one.txt".to_owned(),
        workspace: "a-workspace-that-never-was".to_owned(),
        credential: "credential-of-nobody-x".to_owned(),
        key: "key_0123456789abcdef".to_owned(),
    }
}

async fn put(client: &Client, session: &Value) {
    let path = format!("/v1/sessions/{}/files/{FILE}", id(session));
    let reply = client.call(Method::PUT, &path, &[], Bytes::from("hers")).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
}
