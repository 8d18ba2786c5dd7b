//! Members by Sentinel.
mod event;
mod reply;
