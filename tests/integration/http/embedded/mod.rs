//! What needs no service: every part of the pipeline but the source is down on purpose, and the server answers all the
//! same.

mod access;
mod apart;
mod asked;
mod bodies;
mod hang_up;
mod http1;
mod legacy;
mod life;
mod outages;
mod page;
mod shares;
mod streamable;
