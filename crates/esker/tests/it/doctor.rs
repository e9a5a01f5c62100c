//! The doctor: damage is found where it is, and nowhere else.

mod sample;

mod blobs;
mod crafted;
mod holes;
mod lost_edits;
mod lost_front;
mod misnamed;
mod missing_edits;
mod modes;
mod order;
mod places;
mod rebuilt;
mod repair;
mod salvage;
mod taken_back;
mod unlikely;
mod unnamed;
mod unreadable;
mod verify;
