//! Keyset paging: reading `limit` and `cursor`, making the `Link` to the next page.
//!
//! Invariant: a cursor is the (creation time, id) of the last row shown; a made-up one shows nothing it should not, since scope still binds.

use crate::http::answer::Page as PageAnswer;
use crate::http::params::number;
use axum::http::Uri;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use kubeop_api::resource::ListQuery;
use kubeop_api::tolerant::same_name;
use kubeop_core::id::{ClusterId, ProjectId, TenantId, shorten};
use kubeop_core::{Error, Result};
use kubeop_store::{Filter, Page};
use uuid::Uuid;

const DEFAULT: i64 = 100;
const MAX: i64 = 1000;

/// Reads the page that is asked for; one row more is fetched, to know whether there is a next.
pub fn page(limit: Option<&str>, cursor: Option<&str>) -> Result<Page> {
    let limit = number("limit", limit, DEFAULT, 1..=MAX)?;
    let after = cursor.map(decode).transpose()?;
    Ok(Page { after, limit: u32::try_from(limit).unwrap_or(1) + 1 })
}

/// Reads the filters that are asked for.
pub fn filter(query: &ListQuery) -> Result<Filter<'_>> {
    Ok(Filter {
        cluster_id: query.cluster_id.as_deref().map(ClusterId::parse).transpose().map_err(|e| e.at("cluster_id"))?,
        tenant_id: query.tenant_id.as_deref().map(TenantId::parse).transpose().map_err(|e| e.at("tenant_id"))?,
        project_id: query.project_id.as_deref().map(ProjectId::parse).transpose().map_err(|e| e.at("project_id"))?,
        name: query.name.as_deref(),
    })
}

/// Cuts the row that was fetched to look ahead; the cursor of the next page, if there is one.
pub fn cut<T>(rows: &mut Vec<T>, page: &Page, key: impl Fn(&T) -> (Timestamp, Uuid)) -> Option<String> {
    let shown = usize::try_from(page.limit).unwrap_or(1).saturating_sub(1);
    if rows.len() <= shown {
        return None;
    }
    rows.truncate(shown);
    rows.last().map(|row| encode(key(row)))
}

/// The cursor behind the last row of a page that ended early.
pub fn behind<T>(rows: &[T], key: impl Fn(&T) -> (Timestamp, Uuid)) -> Option<String> {
    rows.last().map(|row| encode(key(row)))
}

/// The answer: the page, and the same query with the next cursor.
pub fn answer<T>(items: Vec<T>, uri: &Uri, cursor: Option<String>) -> PageAnswer<T> {
    let next = cursor.map(|cursor| {
        // Names as they were read, whatever their spelling; each belongs to a pair that is not empty.
        let names = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri).map(|query| query.0);
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let kept: Vec<&str> = pairs
            .zip(names.unwrap_or_default())
            .filter(|(_, (name, _))| !same_name(name, "cursor"))
            .map(|(pair, _)| pair)
            .collect();
        let joint = if kept.is_empty() { "" } else { "&" };
        format!("{}?{}{joint}cursor={cursor}", uri.path(), kept.join("&"))
    });
    PageAnswer { items, next }
}

fn encode((at, id): (Timestamp, Uuid)) -> String {
    let mut bytes = at.as_microsecond().to_be_bytes().to_vec();
    bytes.extend_from_slice(id.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(cursor: &str) -> Result<(Timestamp, Uuid)> {
    let refuse = || Error::invalid(format!("cursor: {:?} is not one of ours", shorten(cursor)));
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refuse())?;
    let (at, id) = bytes.split_first_chunk::<8>().ok_or_else(refuse)?;
    let at = Timestamp::from_microsecond(i64::from_be_bytes(*at)).map_err(|_| refuse())?;
    // Nothing is older, and databases differ in how far back they can count.
    if at < Timestamp::UNIX_EPOCH {
        return Err(refuse());
    }
    let id = Uuid::from_slice(id).map_err(|_| refuse())?;
    Ok((at, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_others_are_refused() {
        let key = (Timestamp::from_microsecond(1_700_000_000_123_456).unwrap(), Uuid::from_u128(7));
        assert_eq!(decode(&encode(key)).unwrap(), key);
        let before = (Timestamp::from_microsecond(-1).unwrap(), Uuid::from_u128(7));
        let forged = "-009000-01-01T00:00:00Z".parse().unwrap();
        assert!(decode(&encode(before)).is_err() && decode(&encode((forged, Uuid::from_u128(7)))).is_err());
        for bad in ["", "x", "!!!", &"A".repeat(10_000), "////////////////////////////////"] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_next_page_keeps_the_filters() {
        let uri: Uri = "/v1/apps?limit=2&cursor=old&name=web".parse().unwrap();
        let page = answer(vec![1, 2], &uri, Some("new".into()));
        assert_eq!(page.next.as_deref(), Some("/v1/apps?limit=2&name=web&cursor=new"));
        for spelling in ["Cursor=old", "_cursor=old", "c%75rsor=old", "%5Fcursor=old", "cursor", "&&cursor=old&"] {
            let uri: Uri = format!("/v1/apps?limit=2&{spelling}&name=a%26b").parse().unwrap();
            let page = answer(vec![1], &uri, Some("new".into()));
            assert_eq!(page.next.as_deref(), Some("/v1/apps?limit=2&name=a%26b&cursor=new"), "{spelling}");
        }
        let mut rows = vec![1, 2, 3];
        let page = Page { after: None, limit: 3 };
        assert!(cut(&mut rows, &page, |n| (Timestamp::UNIX_EPOCH, Uuid::from_u128(*n))).is_some());
        assert_eq!(rows, [1, 2]);
    }
}
