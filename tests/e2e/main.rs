//! The end-to-end tests: the real server as a child process, real containers, the real Gemini CLI, a scripted model.
//!
//! They know the service by its API contract, its settings and the engine only; nothing here looks inside the server.
//! `House` is one server with a state folder, an instance name and ports of its own; a test that can't run (no engine,
//! no image, no supervisor) fails and says what is missing.

// The harness.
mod chance;
mod client;
mod counter;
mod daemon;
mod engine;
mod follower;
mod growth;
mod house;
mod observer;
mod pools;
mod processes;
mod provider;
mod recorder;
mod secret;
mod settings;
mod stream;
#[path = "../credentials/vault.rs"]
#[expect(dead_code, reason = "tests of the library use more of it")]
mod vault;
mod wait;

// The promises.
mod access_matrix;
mod adoption;
mod asked_again;
mod audit;
mod bad_input;
mod budget_parallel;
mod budgets;
mod callers;
mod changes;
mod chat;
mod core_dumps;
mod crash;
mod credentials;
mod cuts;
mod egress;
mod endings;
mod engine_outage;
mod failing_agents;
mod files;
mod first_light;
mod full_disk;
mod gateway;
mod hostile_agents;
mod hostile_output;
mod idempotency;
mod identity;
mod key_hunt;
mod limits;
mod listing;
mod many_at_once;
mod model_apis;
mod once_only;
mod operator;
mod ownership;
mod permissions;
mod permissions_policy;
mod podman;
mod pool_admin;
mod pool_chaos;
mod pool_figures;
mod pool_limits;
mod pool_neighbours;
mod pool_reload;
mod pool_templates;
mod process_runtime;
mod replay;
mod restart;
mod restart_chaos;
mod shutdown;
mod spans;
mod tickets;
mod torrent;
mod tricks;
mod turn_ends;
mod turns;
mod walls;
mod web;
mod workspaces;
