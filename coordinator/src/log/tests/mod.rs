//! The log, tested on a disk that forgets and on real files.

mod backup;
mod codec;
mod crashes;
mod damage;
mod deaths;
mod files;
mod offline;
mod reading;
mod retention;
mod world;
