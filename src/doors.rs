//! The ways in. A door translates: parse, one service call, render. What may be done, and how much of it, is decided behind the service.

pub mod admin;
pub mod dto;
mod http;
pub mod rest;
pub mod server;

pub use rest::app;
pub use server::serve;
