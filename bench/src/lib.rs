//! Load generator and its floor.
