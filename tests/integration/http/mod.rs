//! The server over HTTP: the real program, real clients, and requests no client would send. Every part of the pipeline
//! but the source is down on purpose: the server answers all the same.

mod access;
mod legacy;
mod life;
mod streamable;
