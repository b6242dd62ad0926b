//! What leaves by files leaves as answers do: masked by the same rules, and for whoever asked alone.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    sync::{Arc, LazyLock},
};

use axum::http::{header, request::Parts};
use rmcp::{
    ErrorData,
    model::{Extensions, ReadResourceResult, ResourceContents},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    SluiceServer,
    next_step::worded,
    output::{Masking, Outgoing},
    principal::Principal,
};
use crate::{
    domain::Catalog,
    engine::{EngineError, ExportMask, ExportOf},
    export::{KeptExport, PROCESS, Reader},
    store::{QueryAnswer, QueryColumn},
};

/// The tool by whose name contacts may be shown in exports.
pub(super) const TOOL: &str = "export";

/// Bytes of a file that one reading of its resource gives, and how far on its lines may end.
const PART_BYTES: u64 = 24_000;
const LINE_BYTES: u64 = PART_BYTES / 2;

/// Tells whether somebody may see the contacts in what they had exported.
pub trait Reveals: Send + Sync {
    fn reveals_exports_to(&self, _: &Principal) -> bool {
        false
    }
}

impl Reveals for SluiceServer {
    fn reveals_exports_to(&self, principal: &Principal) -> bool {
        self.may_see_contacts(Some(TOOL), principal)
    }
}

/// Where the server is reached, as its proxy has it; among the extensions of a request.
#[derive(Debug, Clone)]
pub(super) struct PublicBase(pub(super) Arc<str>);

/// Who somebody is to the folder of exports.
pub(super) fn reader(principal: &Principal, sees_contacts: bool) -> Reader {
    let owner = match principal {
        Principal::Process => own_process(),
        Principal::Token(name) => format!("token:{name}"),
        Principal::Peer(address) => format!("peer:{address}"),
        Principal::Page(address) => format!("page:{address}"),
    };
    Reader { owner, sees_contacts }
}

/// Whoever speaks to this process over stdio. Other processes of the same folder give such files, too, and don't count them
/// among their own.
fn own_process() -> String {
    static RUN: LazyLock<Uuid> = LazyLock::new(Uuid::now_v7);
    format!("{PROCESS}{}", *RUN)
}

/// Where a file is fetched over HTTP; `None` over stdio.
pub(super) fn link(extensions: &Extensions, id: Uuid) -> Option<String> {
    let parts = extensions.get::<Parts>()?;
    let base = match parts.extensions.get::<PublicBase>() {
        Some(PublicBase(base)) => base.to_string(),
        None => format!("http://{}", parts.headers.get(header::HOST)?.to_str().ok()?),
    };
    Some(format!("{base}/exports/{id}"))
}

/// What leaves by files where contacts are masked, or not.
pub fn export_mask(catalog: Catalog, shows_contacts: bool) -> impl ExportMask + use<> {
    Outgoing::new((!shows_contacts).then(|| Masking::of(catalog)), catalog)
}

impl ExportMask for Outgoing {
    fn shows_contacts(&self) -> bool {
        self.sees_contacts()
    }

    fn masked(
        &self,
        of: &ExportOf,
        store: &'static str,
        columns: &[QueryColumn],
        rows: Vec<Vec<Value>>,
    ) -> Vec<Vec<Value>> {
        match of {
            ExportOf::Sql(sql) => {
                let columns = columns.to_vec();
                let mut answer = QueryAnswer { columns, rows, truncated: false, warning: None };
                self.answer(store, sql, &mut answer);
                // As it is masked in the answer that a statement's rows leave in.
                let names: Vec<Value> =
                    answer.columns.iter().map(|column| json!({"name": column.name})).collect();
                let mut leaving = json!({"columns": names, "rows": answer.rows});
                self.value(&mut leaving);
                rows_of(leaving["rows"].take())
            }
            ExportOf::Search(_) => {
                let document = |row: Vec<Value>| {
                    let names = columns.iter().map(|column| column.name.clone());
                    let mut document = Value::Object(names.zip(row).collect::<Map<_, _>>());
                    self.value(&mut document);
                    columns.iter().map(|column| document[column.name.as_str()].take()).collect()
                };
                rows.into_iter().map(document).collect()
            }
        }
    }
}

fn rows_of(rows: Value) -> Vec<Vec<Value>> {
    let cells = |row| match row {
        Value::Array(cells) => cells,
        _ => Vec::new(),
    };
    match rows {
        Value::Array(rows) => rows.into_iter().map(cells).collect(),
        _ => Vec::new(),
    }
}

impl SluiceServer {
    /// A part of an export's file. Parts put together are the file.
    ///
    /// # Errors
    /// When there is no such file for this client, or it can't be read.
    pub(super) async fn read_export(
        &self,
        address: &str,
        id: Uuid,
        part: u64,
        principal: &Principal,
    ) -> Result<ReadResourceResult, ErrorData> {
        let reader = reader(principal, self.outgoing.sees_contacts());
        let absent = |problem: String| ErrorData::resource_not_found(problem, Some(json!({"uri": address})));
        let internal = |error: EngineError| ErrorData::internal_error(error.remark().worded(worded), None);
        let Some((kept, file)) = self.engine.exports.open(id, &reader).await.map_err(internal)? else {
            return Err(absent(format!(
                "{address} is not there: it is still being made, has expired, was removed because a person was erased, or is \
                 another client's; call export again"
            )));
        };
        let parts = kept.bytes.div_ceil(PART_BYTES).max(1);
        if !(1..=parts).contains(&part) {
            return Err(absent(format!("{address}: there are parts 1 to {parts}")));
        }
        let read = tokio::task::spawn_blocking(move || read_part(file, part)).await;
        let text = read.map_err(io::Error::other).and_then(|read| read);
        let text = text.map_err(|error| ErrorData::internal_error(format!("{address}: {error}"), None))?;
        let mut contents =
            vec![ResourceContents::text(text, address).with_mime_type(kept.format.mime_type())];
        if parts > 1 {
            let next = (part < parts).then(|| format!("sluice://exports/{id}/{}", part + 1));
            let told = json!({
                "part": part, "parts": parts, "rows": kept.rows, "bytes": kept.bytes,
                "next": next, "note": "the parts put together are the file",
            });
            let told = ResourceContents::text(told.to_string(), format!("sluice://exports/{id}#part"));
            contents.push(told.with_mime_type("application/json"));
        }
        Ok(ReadResourceResult::new(contents))
    }

    /// Where a file lies, for a client at this machine.
    pub(super) fn export_path(&self, kept: &KeptExport, extensions: &Extensions) -> Option<String> {
        let is_here = extensions.get::<Parts>().is_none();
        is_here.then(|| self.engine.exports.path(kept).display().to_string())
    }
}

fn read_part(mut file: File, part: u64) -> io::Result<String> {
    let begin = boundary(&mut file, (part - 1) * PART_BYTES)?;
    let end = boundary(&mut file, part * PART_BYTES)?;
    let bytes = read_at(&mut file, begin, end - begin)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// Where a part begins: at the first line behind a place, or at a character where lines are long.
fn boundary(file: &mut File, place: u64) -> io::Result<u64> {
    if place == 0 {
        return Ok(0);
    }
    let behind = read_at(file, place, LINE_BYTES)?;
    if (behind.len() as u64) < LINE_BYTES && !behind.contains(&b'\n') {
        return Ok(place + behind.len() as u64);
    }
    let line = behind.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    let character = || behind.iter().position(|byte| byte & 0b1100_0000 != 0b1000_0000);
    Ok(place + line.or_else(character).unwrap_or_default() as u64)
}

fn read_at(file: &mut File, place: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    file.seek(SeekFrom::Start(place))?;
    file.take(bytes).read_to_end(&mut read)?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn parts_are_bounded_and_make_the_file_when_put_together() {
        let long = "é".repeat(100_001);
        for content in ["linha\r\n".repeat(20_000), long, "a\n".to_owned(), String::new()] {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(content.as_bytes()).expect("written");
            let parts = (content.len() as u64).div_ceil(PART_BYTES).max(1);
            let part = |part| {
                let read = read_part(file.try_clone().expect("the file"), part).expect("a part");
                assert!(read.len() as u64 <= PART_BYTES + LINE_BYTES);
                read
            };
            assert_eq!((1..=parts).map(part).collect::<String>(), content);
        }
    }
}
