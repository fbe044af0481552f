//! Workspaces: at home, in a slot, and on their way.

mod archive;
mod files;
mod hostile;
mod weigh;

use super::*;
use crate::{
    ids::SlotId,
    sandbox::slot::{self, Slots},
};

/// To whom sandboxes' files belong, where the tests may give them away.
const AGENT: slot::Owner = slot::Owner { uid: 10_001, gid: 10_001 };

struct House {
    state: tempfile::TempDir,
    slots: Slots,
    workspaces: Arc<Workspaces>,
}

fn house() -> House {
    let state = tempfile::tempdir().expect("a temporary folder");
    let slots = Slots::open(state.path(), AGENT).expect("slots");
    let workspaces = Workspaces::open(state.path()).expect("workspaces");
    House { state, slots, workspaces }
}

impl House {
    fn slot(&self) -> Slot {
        self.slots.create(&SlotId::random()).expect("a slot")
    }
    fn hold(&self, user: &str, name: &str) -> Result<WorkspaceHold, WorkspaceError> {
        self.workspaces.hold(&whose(user), &WorkspaceName::parse(name).expect("a name"))
    }
}

fn whose(user: &str) -> Whose {
    Whose::recorded(UserId::parse(user).expect("a user"))
}

#[test]
fn what_an_agent_wrote_is_there_the_next_time() {
    let house = house();
    let first = house.slot();
    let hold = house.hold("alice", "notes").expect("free");
    hold.move_in(&first).expect("claimed");
    fs::write(first.workspace().join("a.txt"), "hello").expect("written");
    hold.move_back(&first).expect("moved back");
    first.remove().expect("removed");
    drop(hold);

    let second = house.slot();
    let hold = house.hold("alice", "notes").expect("free again");
    assert!(hold.exists());
    hold.move_in(&second).expect("moved in");
    assert_eq!(fs::read_to_string(second.workspace().join("a.txt")).expect("there"), "hello");
    assert!(!hold.exists(), "it is in the slot, not in two places");
}

#[test]
fn a_workspace_is_held_by_one_session_at_a_time_and_by_user() {
    let house = house();
    let hold = house.hold("alice", "notes").expect("free");
    assert!(matches!(house.hold("alice", "notes"), Err(WorkspaceError::InUse(_))));
    let _other = house.hold("bob", "notes").expect("another user's is another one");
    drop(hold);
    house.hold("alice", "notes").expect("free again");
}

#[test]
fn a_killed_servers_workspace_is_taken_home() {
    let house = house();
    let slot = house.slot();
    let hold = house.hold("https://id.example/alice", "notes").expect("free");
    hold.move_in(&slot).expect("claimed");
    fs::write(slot.workspace().join("a.txt"), "hello").expect("written");
    drop(hold);
    for found in house.slots.list().expect("listed") {
        house.workspaces.recover(&found).expect("recovered");
        found.remove().expect("removed");
    }
    assert!(house.hold("https://id.example/alice", "notes").expect("free").exists());
}

#[test]
fn a_folder_that_its_agent_closed_comes_home_all_the_same() {
    let house = house();
    let slot = house.slot();
    let hold = house.hold("alice", "notes").expect("free");
    hold.move_in(&slot).expect("claimed");
    fs::write(slot.workspace().join("a.txt"), "hello").expect("written");
    fs::set_permissions(slot.workspace(), fs::Permissions::from_mode(0o555)).expect("closed");
    hold.move_back(&slot).expect("moved back");
    assert!(hold.exists());
    let mode = fs::metadata(&hold.home).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "what others may do is the agent's affair");
}

#[test]
fn a_workspace_that_is_stuck_is_never_replaced_by_an_empty_one() {
    let house = house();
    let slot = house.slot();
    let hold = house.hold("alice", "notes").expect("free");
    hold.move_in(&slot).expect("claimed");
    fs::write(slot.workspace().join("a.txt"), "hello").expect("written");
    fs::create_dir_all(hold.home.join("in the way")).expect("made");
    drop(hold);
    house.workspaces.recover(&slot).expect_err("its home is taken");
    assert!(matches!(house.hold("alice", "notes"), Err(WorkspaceError::InUse(_))));
    assert!(slot.remove().is_err() && slot.workspace().join("a.txt").exists());
}

#[test]
fn a_nameless_workspace_is_kept_only_when_something_is_in_it() {
    let house = house();
    for (content, kept) in [(None, false), (Some("x"), true)] {
        let slot = house.slot();
        let mut hold = house.hold("alice", "made-up").expect("free");
        hold.forget_if_empty();
        hold.move_in(&slot).expect("claimed");
        if let Some(content) = content {
            fs::write(slot.workspace().join("a.txt"), content).expect("written");
        }
        hold.move_back(&slot).expect("moved back");
        slot.remove().expect("removed");
        assert_eq!(hold.exists(), kept);
    }
}

#[test]
fn what_a_warm_agent_left_behind_makes_way() {
    let house = house();
    let first = house.slot();
    let hold = house.hold("alice", "notes").expect("free");
    hold.move_in(&first).expect("claimed");
    fs::write(first.workspace().join("mine"), "x").expect("written");
    hold.move_back(&first).expect("moved back");
    let second = house.slot();
    fs::write(second.workspace().join("litter"), "x").expect("written");
    hold.move_in(&second).expect("moved in");
    assert!(second.workspace().join("mine").exists() && !second.workspace().join("litter").exists());
}

#[test]
fn a_user_sees_their_workspaces_and_no_others() {
    let house = house();
    let names = |user: &str, after: Option<&str>, limit| {
        let (shelved, more) = house.workspaces.list(&whose(user), after.map(str::to_owned), limit).expect("listed");
        (shelved.into_iter().map(|one| one.name.to_string()).collect::<Vec<_>>(), more)
    };
    assert_eq!(names("alice", None, 10), (vec![], false));
    for name in ["one", "two", "three"] {
        let slot = house.slot();
        let hold = house.hold("alice", name).expect("free");
        hold.move_in(&slot).expect("claimed");
        hold.move_back(&slot).expect("moved back");
    }
    let slot = house.slot();
    let hold = house.hold("alice", "in-use").expect("free");
    hold.move_in(&slot).expect("claimed");
    assert_eq!(names("alice", None, 10), (["in-use", "one", "three", "two"].map(str::to_owned).to_vec(), false));
    assert_eq!(names("alice", Some("in-use"), 2), (["one", "three"].map(str::to_owned).to_vec(), true));
    assert_eq!(names("bob", None, 10), (vec![], false));
}

#[tokio::test]
async fn a_workspace_that_was_removed_is_gone_at_once_and_from_the_disk_soon_also_after_a_restart() {
    let house = house();
    let (user, name) = (whose("alice"), WorkspaceName::parse("notes").expect("a name"));
    let slot = house.slot();
    let hold = house.hold("alice", "notes").expect("free");
    hold.move_in(&slot).expect("claimed");
    fs::create_dir_all(slot.workspace().join("deep/er")).expect("made");
    assert!(matches!(house.workspaces.delete(&user, &name), Err(WorkspaceError::InUse(_))));
    hold.move_back(&slot).expect("moved back");
    drop(hold);
    assert!(house.workspaces.delete(&user, &name).expect("removed"));
    assert!(!house.workspaces.delete(&user, &name).expect("not there"));
    assert!(!house.hold("alice", "notes").expect("free").exists());

    // The server that removed it never came to clear its trash; another one does.
    let trash = house.state.path().join("trash");
    let left = || fs::read_dir(&trash).expect("there").count();
    assert_eq!(left(), 1);
    let next = Workspaces::open(house.state.path()).expect("opened");
    let token = tokio_util::sync::CancellationToken::new();
    let keeping = tokio::spawn(next.keep_house(token.clone()));
    while left() > 0 {
        tokio::task::yield_now().await;
    }
    token.cancel();
    keeping.await.expect("it ends with its token");
}
