//! Filling counters from the ledger, where they have been lost: at the start of a gateway that keeps them in memory, and
//! when Redis was emptied.
