//! What the server says of its pools, to users and to operators.

use std::{fs, io::Write as _, time::Duration};

use serde_json::Value;

use crate::{client::Client, engine::Container, house::House, wait::until};

/// Deadline for a pool to come to rest.
const REST: Duration = Duration::from_secs(30);

/// One sandbox, as the operator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    pub id: String,
    pub template: String,
    pub state: String,
    pub stale: bool,
}

impl Sandbox {
    /// Whether this is its container: one of the labels is its id.
    pub fn is_in(&self, container: &Container) -> bool {
        container.labels.values().any(|value| *value == self.id)
    }
}

/// Prints what a test has counted; `make chaos` collects it in the file that `CHAOS_SUMMARY` names.
pub fn tell(line: &str) {
    println!("{line}");
    if let Some(file) = std::env::var_os("CHAOS_SUMMARY") {
        let mut file = fs::File::options().append(true).create(true).open(file).expect("the summary can be opened");
        writeln!(file, "{line}").expect("the summary can be written");
    }
}

/// A template's pool in `/v1/pools`.
pub async fn pool(house: &House, template: &str) -> Value {
    let pools = house.alice().get_json("/v1/pools").await;
    of(&pools, template)
}

/// A template's pool in a list of all.
#[track_caller]
pub fn of(pools: &Value, template: &str) -> Value {
    let items = pools["items"].as_array().unwrap_or_else(|| panic!("no pools: {pools}"));
    let found = items.iter().find(|pool| pool["template"] == template);
    found.unwrap_or_else(|| panic!("no pool {template}: {pools}")).clone()
}

/// A number of a pool.
#[track_caller]
pub fn number(pool: &Value, name: &str) -> u64 {
    pool[name].as_u64().unwrap_or_else(|| panic!("no number {name}: {pool}"))
}

/// The sum of a histogram's counts.
#[track_caller]
pub fn counted(pool: &Value, histogram: &str) -> u64 {
    let buckets = pool[histogram].as_array().unwrap_or_else(|| panic!("no {histogram}: {pool}"));
    let bounds = [1, 5, 10, 50, 100, 500, 1000, 5000, 10_000, 30_000].map(Some).into_iter().chain([None]);
    assert!(buckets.iter().map(|bucket| bucket["le"].as_u64()).eq(bounds), "other buckets: {pool}");
    buckets.iter().map(|bucket| number(bucket, "count")).sum()
}

/// All sandboxes, as the operator sees them.
pub async fn sandboxes(operator: &Client) -> Vec<Sandbox> {
    let list = operator.get_json("/sandboxes").await;
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no sandboxes: {list}"));
    let text = |item: &Value, name: &str| {
        item[name].as_str().unwrap_or_else(|| panic!("a sandbox without {name}: {item}")).to_owned()
    };
    let sandbox = |item: &Value| Sandbox {
        id: text(item, "id"),
        template: text(item, "template"),
        state: text(item, "state"),
        stale: item["stale"].as_bool().unwrap_or_else(|| panic!("a sandbox without stale: {item}")),
    };
    items.iter().map(sandbox).collect()
}

/// The sandboxes in this state.
pub async fn in_state(house: &House, state: &str) -> Vec<Sandbox> {
    sandboxes(&house.operator()).await.into_iter().filter(|sandbox| sandbox.state == state).collect()
}

/// Whether a pool has its whole stock, and nothing else goes on.
pub fn rests(pool: &Value) -> bool {
    pool["warm"] == pool["target"]
        && ["starting", "leased", "ending", "stale", "waiting"]
            .iter()
            .all(|name| pool[*name].as_u64().unwrap_or(0) == 0)
}

/// Waits until a template's pool has its whole stock and nothing else goes on; gives back the pool.
pub async fn at_rest(house: &House, template: &str) -> Value {
    at_rest_within(house, template, REST).await
}

/// The same, by a deadline of its own.
pub async fn at_rest_within(house: &House, template: &str, deadline: Duration) -> Value {
    let mut last = Value::Null;
    let resting = async || {
        last = pool(house, template).await;
        rests(&last).then(|| last.clone())
    };
    until(&format!("the pool {template} is at rest"), deadline, resting).await
}

/// Waits until the engine has exactly the containers of the sandboxes that the server knows.
pub async fn no_orphans(house: &House) {
    until("engine and server know the same sandboxes", REST, async || {
        let containers = house.engine().containers(&house.instance).await;
        let known = sandboxes(&house.operator()).await;
        let matched = known.iter().all(|sandbox| containers.iter().any(|container| sandbox.is_in(container)));
        (matched && known.len() == containers.len()).then_some(())
    })
    .await;
}

/// Waits until a template's whole stock is in containers that run, and none of the containers `lost` is there any more.
pub async fn healed(house: &House, template: &str, lost: &[String], deadline: Duration) {
    until(&format!("the stock of {template} is whole again"), deadline, async || {
        let operator = house.operator();
        let (known, containers) = tokio::join!(sandboxes(&operator), house.engine().containers(&house.instance));
        let runs = |sandbox: &&Sandbox| containers.iter().any(|one| sandbox.is_in(one) && one.state == "running");
        let ready = known.iter().filter(|sandbox| sandbox.state == "ready" && sandbox.template == template);
        let whole = ready.filter(runs).count() as u64 == number(&pool(house, template).await, "target");
        (whole && containers.iter().all(|one| !lost.contains(&one.id))).then_some(())
    })
    .await;
}
