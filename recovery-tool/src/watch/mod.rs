//! The live view: status, what is in doubt and alarms on one screen that keeps itself up to date.
//!
//! | room | what it does |
//! |---|---|
//! | `input` | keys to actions; pure |
//! | `model` | what was answered, what is selected, which overlay is open, what is to be asked next; pure |
//! | `view` | the model as widgets; pure |
//! | `run` | the loop: terminal, keys, calls and time |

mod input;
mod model;
mod run;
mod view;

pub(crate) use run::run;
