//! Files of a session's workspace, and the whole of it as an archive.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{
    ApiResponse, OpenApi, ResponseContent,
    param::{Path, Query},
    payload::Json,
};

use super::{
    Door, Group,
    answer::{Answer, Fetching, Packing, Removing, Storing, Unpacking},
    download::Download,
    dto::file::{Folder, cursor_from_text},
    media::{Octets, Tar},
    token::{MayAct, MayRead},
    upload::Upload,
};
use crate::{
    ids::SessionId,
    service::files::{FolderPage, FoundFile, Written},
};

/// Entries on a page unless `limit` says otherwise.
const PAGE: usize = 100;

pub(super) struct Files;

#[derive(ResponseContent)]
enum Content {
    File(Download<Octets>),
    Folder(Json<Folder>),
}

#[derive(ApiResponse)]
enum Got {
    /// A file's bytes, or a page of what is in a folder.
    #[oai(status = 200)]
    Found(Content),
}

#[derive(ApiResponse)]
enum Put {
    /// There is a new file.
    #[oai(status = 201)]
    New,
    /// A file was replaced.
    #[oai(status = 204)]
    Replaced,
}

#[derive(ApiResponse)]
enum Gone {
    /// It is gone.
    #[oai(status = 204)]
    Gone,
}

#[derive(ApiResponse)]
enum Unpacked {
    /// Everything in the archive is in the workspace.
    #[oai(status = 204)]
    Unpacked,
}

// The last part of these paths takes slashes too. The router finds a handler's parameters by their number, and nothing but its name makes this one
// number 1; the document calls it `{path}`.
#[OpenApi(prefix_path = "/v1", tag = "Group::Files")]
impl Files {
    /// Read a file, or list a folder
    ///
    /// The path may have several parts, with slashes between them; none at all is the workspace itself. Links that stay in the workspace are
    /// followed.
    #[oai(path = "/sessions/:id/files/*param1", method = "get", operation_id = "read_file")]
    async fn read(
        &self,
        door: Data<&Arc<Door>>,
        token: MayRead,
        /// The session.
        id: Path<String>,
        /// The file or folder below the workspace.
        path: Path<String>,
        /// For a folder: entries on a page.
        #[oai(default = "page", validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<usize>,
        /// For a folder: the `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Answer<Got, Fetching> {
        let read = async {
            let after = cursor.0.as_deref().map(cursor_from_text).transpose()?;
            let page = FolderPage { limit: limit.0, after };
            let found = door.service.find_file(&token.0, &SessionId::from_client(&id.0), &path.0, page).await?;
            Ok(Got::Found(match found {
                FoundFile::File(outgoing) => Content::File(Download::start(outgoing, &door.config.server)),
                FoundFile::Folder(listing) => Content::Folder(Json(listing.into())),
            }))
        };
        read.await.into()
    }

    /// Write a file
    ///
    /// Folders on the way are made. Whoever reads the file sees the old one or the new one; if the body breaks off, nothing has changed.
    #[oai(path = "/sessions/:id/files/*param1", method = "put", operation_id = "write_file")]
    async fn write(
        &self,
        door: Data<&Arc<Door>>,
        token: MayAct,
        /// The session.
        id: Path<String>,
        /// The file below the workspace.
        path: Path<String>,
        body: Upload<Octets>,
    ) -> Answer<Put, Storing> {
        let write = async {
            let id = SessionId::from_client(&id.0);
            let sink = door.service.write_file(&token.0, &id, &path.0, body.announced());
            Ok(match body.hand_over(sink, &door.config.server).await? {
                Written::New => Put::New,
                Written::Replaced => Put::Replaced,
            })
        };
        write.await.into()
    }

    /// Remove a file or folder
    ///
    /// A link is removed, not what it leads to.
    #[oai(path = "/sessions/:id/files/*param1", method = "delete", operation_id = "delete_file")]
    async fn delete(
        &self,
        door: Data<&Arc<Door>>,
        token: MayAct,
        /// The session.
        id: Path<String>,
        /// The file or folder below the workspace.
        path: Path<String>,
        /// A folder goes with all that is in it.
        #[oai(default)]
        recursive: Query<bool>,
    ) -> Answer<Gone, Removing> {
        let id = SessionId::from_client(&id.0);
        door.service.delete_file(&token.0, &id, &path.0, recursive.0).await.map(|()| Gone::Gone).into()
    }

    /// Take the workspace as an archive
    ///
    /// A tar archive of its files, its folders, and the links that stay inside.
    #[oai(path = "/sessions/:id/archive", method = "get", operation_id = "read_archive")]
    async fn pack(
        &self,
        door: Data<&Arc<Door>>,
        token: MayRead,
        /// The session.
        id: Path<String>,
    ) -> Answer<Download<Tar>, Packing> {
        let outgoing = door.service.pack(&token.0, &SessionId::from_client(&id.0)).await;
        outgoing.map(|outgoing| Download::start(outgoing, &door.config.server)).into()
    }

    /// Unpack an archive over the workspace
    ///
    /// A tar archive of files, folders, and links that stay inside. What was unpacked before something went wrong stays.
    #[oai(path = "/sessions/:id/archive", method = "put", operation_id = "write_archive")]
    async fn unpack(
        &self,
        door: Data<&Arc<Door>>,
        token: MayAct,
        /// The session.
        id: Path<String>,
        body: Upload<Tar>,
    ) -> Answer<Unpacked, Unpacking> {
        let unpack = async {
            let id = SessionId::from_client(&id.0);
            let announced = body.announced();
            let sink = door.service.unpack(&token.0, &id, announced);
            body.hand_over(sink, &door.config.server).await?;
            Ok(Unpacked::Unpacked)
        };
        unpack.await.into()
    }
}

fn page() -> usize {
    PAGE
}
