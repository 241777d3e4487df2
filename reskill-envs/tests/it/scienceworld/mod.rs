//! ScienceWorld: the protocol and its faults over a stand-in, and the real simulator where it is.

mod fake;
mod protocol;
mod faults;
mod real;
