//! What needs no service: every part of the pipeline but the source is down on purpose, and the server answers all the
//! same.

mod access;
mod hang_up;
mod legacy;
mod life;
mod streamable;
