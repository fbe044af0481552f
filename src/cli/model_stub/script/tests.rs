//! What a prompt says is what the stub does.

use serde_json::json;

use super::*;

fn decide(text: &str, results: usize) -> Plan {
    plan(&Prompt { text: text.to_owned(), results }, &Options::default())
}

fn pieces(plan: Plan) -> Vec<String> {
    match plan {
        Plan::Say { pieces, .. } => pieces,
        other => panic!("not an answer: {other:?}"),
    }
}

#[test]
fn a_plain_prompt_is_repeated_in_several_pieces() {
    let pieces = pieces(decide("Is there [light]?", 0));
    assert!(pieces.len() > 3);
    assert_eq!(pieces.concat(), "Hello from the model stub. You said: Is there [light]?");
}

#[test]
fn an_answer_is_cut_as_asked() {
    assert_eq!(pieces(decide("[chunks:3] go", 0)), ["chunk-1 ", "chunk-2 ", "chunk-3 "]);
    assert_eq!(pieces(decide("[words:to be or]", 0)), ["to ", "be ", "or"]);
    let Plan::Say { thought, delay, ending, .. } = decide("[thought:hm][delay:20][stall]", 0) else {
        panic!("an answer")
    };
    assert_eq!((thought.as_deref(), delay, ending), (Some("hm"), Duration::from_millis(20), Ending::Stall));
    assert_eq!(decide("[error:429]", 0), Plan::Fail(429));
    assert_eq!(decide("please [hang] on", 0), Plan::Hang);
}

#[test]
fn tools_are_asked_for_one_after_the_other() {
    let text =
        "[tool:write_file path=notes.txt text=hello there] [tool:run_shell_command command=echo \"a ]\" b=c; ls -l]";
    let Plan::Call(first) = decide(text, 0) else { panic!("a call") };
    assert_eq!(json!(first.args), json!({"file_path": "notes.txt", "content": "hello there"}));
    let Plan::Call(second) = decide(text, 1) else { panic!("a call") };
    assert_eq!(second.name, "run_shell_command");
    assert!(pieces(decide(text, 2)).concat().contains("The tool has answered."));
}

#[test]
fn a_tools_arguments_may_be_quoted_or_json() {
    for text in [r#"[tool:t a="x ] y" b=2]"#, r#"[tool:t {"a": "x ] y", "b": "2"}]"#] {
        let Plan::Call(call) = decide(text, 0) else { panic!("a call") };
        assert_eq!(json!(call.args), json!({"a": "x ] y", "b": "2"}), "{text}");
    }
    let Plan::Call(call) = decide(r#"[tool:t {"list": [1, [2]]}]"#, 0) else { panic!("a call") };
    assert_eq!(json!(call.args), json!({"list": [1, [2]]}));
}

#[test]
fn the_first_rule_that_fits_is_followed() {
    let script = json!({"rules": [{"when": "weather", "say": ["rain"]}, {"say": ["else"]}]});
    let options = Options { script: serde_json::from_value(script).expect("a script"), ..Options::default() };
    let answer = |text: &str| pieces(plan(&Prompt { text: text.to_owned(), results: 0 }, &options)).concat();
    assert_eq!(
        (answer("the weather?"), answer("hi"), answer("[words:hm]")),
        ("rain".into(), "else".into(), "hm".into())
    );
}

#[test]
fn no_text_upsets_it() {
    for text in [
        "[",
        "[[",
        "[tool",
        "[tool:",
        "[tool:]",
        "[tool:a =]",
        "[chunks:]",
        "[chunks:-1]",
        "[error:x]",
        "é[hang",
        "[words:\"]",
    ] {
        decide(text, 0);
    }
}
