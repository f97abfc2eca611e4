//! Integration tests: one binary, a file for each behaviour.

mod corpus;
