//! Damage: found where it is, and nowhere else.

mod sample;

mod lost_edits;
mod modes;
mod repair;
mod salvage;
mod unlikely;
mod verify;
