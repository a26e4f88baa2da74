//! The program as a user runs it: against a host made with the library.

mod alone;
mod audit;
mod containers;
mod files;
mod fleet;
mod host;
mod hostile;
mod hubs;
mod keys;
mod lines;
mod logs;
mod rules;
mod run;
mod serve;
mod ssh;
mod started;
mod sync;
mod terminals;
mod tunnels;
