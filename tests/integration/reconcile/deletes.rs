//! What is removed, what is not, and what comes back.
