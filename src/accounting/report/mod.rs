//! What the ledger says, for people and programs: questions as they are written, and answers as they are given. The
//! admin API and the command line ask and answer alike.

mod answer;
mod question;
mod receipt;

pub use self::{
    answer::{Money, UsageItem, UsageReport},
    question::{By, Every, Filters, ReportError, RequestQuestion, UsageQuestion},
    receipt::{Receipt, ReceiptAttempt, ReceiptKey, ReceiptPage},
};

use crate::store::{Db, ledger};

/// The answer to a question for usage: one page.
///
/// # Errors
/// [`ReportError`].
pub async fn usage(db: &Db, question: &UsageQuestion) -> Result<UsageReport, ReportError> {
    let (query, print) = question.query(db).await?;
    let page = ledger::usage(db, &query).await?;
    Ok(UsageReport::new(question, &query, page, &print))
}

/// The calls that a question asks for, newest first: one page.
///
/// # Errors
/// [`ReportError`].
pub async fn requests(db: &Db, question: &RequestQuestion) -> Result<ReceiptPage, ReportError> {
    let (filter, print) = question.filter(db).await?;
    // One more than is asked for tells whether there is another page.
    let calls = ledger::requests(db, &ledger::RequestFilter { limit: filter.limit + 1, ..filter.clone() }).await?;
    Ok(ReceiptPage::new(calls, filter.limit, &print))
}

/// The receipt of one call.
///
/// # Errors
/// [`ReportError::Store`].
pub async fn request(db: &Db, id: &str) -> Result<Option<Receipt>, ReportError> {
    Ok(ledger::request(db, id).await?.as_ref().map(Receipt::from))
}
