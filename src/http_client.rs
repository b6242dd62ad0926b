//! HTTP clients that are made when they are first used.

use std::sync::LazyLock;

use reqwest::{Client, ClientBuilder};

/// A client, or what it is made of. Making one reads all authorities that the machine trusts, which takes tens of
/// milliseconds: a process that is to answer at once does without until something is sent.
pub(crate) struct Lazy<T>(LazyLock<Result<T, String>, Make<T>>);

type Make<T> = Box<dyn FnOnce() -> Result<T, String> + Send>;

impl<T> Lazy<T> {
    pub(crate) fn new(make: impl FnOnce() -> Result<T, String> + Send + 'static) -> Self {
        Self(LazyLock::new(Box::new(make)))
    }

    /// The client, the same each time.
    ///
    /// # Errors
    /// Why it could not be made, each time.
    pub(crate) fn get(&self) -> Result<&T, &str> {
        self.0.as_ref().map_err(String::as_str)
    }
}

impl From<ClientBuilder> for Lazy<Client> {
    fn from(builder: ClientBuilder) -> Self {
        Self::new(|| builder.build().map_err(|error| format!("the HTTP client could not be made: {error}")))
    }
}
