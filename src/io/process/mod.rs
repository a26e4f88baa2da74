//! Processes: start, environment, terminal and end.

pub mod child;
mod child_side;
mod confinement;
pub mod environment;
pub mod fork;
pub mod orphans;
mod ours;
mod proc;
mod sessions;
pub mod spawn;
pub mod stdio;
pub mod terminal;
