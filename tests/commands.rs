//! The program as a shell sees it: exit codes and what is said where.

use std::process::{Command, Output};

fn greenroom(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_greenroom"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .expect("the program was built for this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn faulty_settings_end_with_78_and_all_faults() {
    let variables =
        [("GREENROOM__POOL__SIZES", "1"), ("POOL_SIZE", "canary-many"), ("GREENROOM__LIMITS__STREAMS", "0")];
    let output = greenroom(&["serve"], &variables);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.starts_with("greenroom: 3 faults in the settings\n"), "{said}");
    for fault in ["pool.sizes (GREENROOM__POOL__SIZES): ", "pool.size (POOL_SIZE): ", "limits.streams "] {
        assert!(said.contains(fault), "no {fault} in {said}");
    }
    assert!(!said.contains("canary"), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_missing_file_ends_with_78() {
    let output = greenroom(&["serve", "--config", "/nowhere/greenroom.toml"], &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("/nowhere/greenroom.toml: can't be read"), "{}", text(&output.stderr));
}

#[test]
fn wrong_arguments_end_with_2_and_help_with_0() {
    assert_eq!(greenroom(&["serve", "--prot", "1"], &[]).status.code(), Some(2));
    assert_eq!(greenroom(&[], &[]).status.code(), Some(2));
    let output = greenroom(&["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("Exit codes:"));
}

#[test]
fn keys_are_told_of_the_settings_before_or_after_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let state = folder.path().join("state").display().to_string();
    let file = folder.path().join("greenroom.toml").display().to_string();
    std::fs::write(&file, format!("[state]\ndir = {state:?}\n")).expect("the folder is writable");
    let create = ["create", "--user", "ada"];
    for settings in [["--config", &file], ["--state-dir", &state]] {
        for arguments in [[&["keys"], &create[..], &settings].concat(), [&["keys"], &settings[..], &create].concat()] {
            let output = greenroom(&arguments, &[]);
            assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        }
    }
    let listed = text(&greenroom(&["keys", "list", "--state-dir", &state], &[]).stdout);
    assert_eq!(listed.lines().count(), 4, "{listed}");
}

#[test]
fn an_unhealthy_server_ends_with_1() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let output = greenroom(&["healthcheck"], &[("GREENROOM__SERVER__ADDRESS", &address)]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.starts_with(&format!("greenroom: http://{address}/healthz can't be reached")), "{said}");
}

#[test]
fn help_never_shows_the_value_of_a_variable() {
    for command in ["serve", "keys", "model-stub", "healthcheck"] {
        let variables = [("GEMINI_API_KEY", "canary"), ("MODEL_STUB_KEY", "canary")];
        let output = greenroom(&[command, "--help"], &variables);
        assert!(output.status.success() && !text(&output.stdout).contains("canary"), "{}", text(&output.stdout));
    }
}

#[test]
fn a_backup_is_a_private_copy_and_overwrites_nothing() {
    use greenroom::store::sqlite::{FILE_NAME, Settings, Sqlite};
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder for the test");
    let state = folder.path().display().to_string();
    let to = folder.path().join("copy");
    let copy = to.display().to_string();
    let arguments = ["backup", "--to", &copy, "--state-dir", &state];

    let output = greenroom(&arguments, &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("greenroom: ") && said.contains("there is no such file"), "{said}");

    // Held open, as a server does.
    let _store = Sqlite::open(&folder.path().join(FILE_NAME), &Settings::default()).expect("the store opens");
    let output = greenroom(&arguments, &[]);
    let said = text(&output.stderr);
    assert!(output.status.success() && output.stdout.is_empty(), "{said}");
    let data = std::fs::metadata(&to).expect("it was made");
    assert_eq!(data.permissions().mode() & 0o777, 0o600);
    assert!(
        said.starts_with(&format!("{copy}: {} bytes in ", data.len())) && said.ends_with(" s, checked\n"),
        "{said}"
    );

    let output = greenroom(&arguments, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("exists; it is not overwritten"), "{}", text(&output.stderr));
    assert_eq!(greenroom(&["backup"], &[]).status.code(), Some(2));
    assert_eq!(greenroom(&["backup", "--to", &copy, "--config", "/nowhere.toml"], &[]).status.code(), Some(78));
}
