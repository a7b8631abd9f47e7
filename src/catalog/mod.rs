//! Facts about models: prices, and the one function that turns usage into money.
