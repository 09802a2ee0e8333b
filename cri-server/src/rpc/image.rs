//! The calls of the image service.

use super::{Answers, Service, answer, chunks};
use crate::api::image_service_server::ImageService;
use crate::api::{
    FilesystemIdentifier, FilesystemUsage, Image, ImageFilter, ImageFsInfoRequest,
    ImageFsInfoResponse, ImageSpec, ImageStatusRequest, ImageStatusResponse, ListImagesRequest,
    ListImagesResponse, PullImageRequest, PullImageResponse, RemoveImageRequest,
    RemoveImageResponse, StreamImagesRequest, StreamImagesResponse, UInt64Value,
};
use crate::error::{Result, invalid};
use crate::images::{Entry, blocking};
use crate::time;
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl ImageService for Service {
    type StreamImagesStream = Answers<StreamImagesResponse>;

    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        answer("ListImages", async {
            let images = self.listed(request.into_inner().filter).await?;
            Ok(ListImagesResponse { images })
        })
        .await
    }

    async fn stream_images(
        &self,
        request: Request<StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        answer("StreamImages", async {
            let images = self.listed(request.into_inner().filter).await?;
            Ok(chunks(images, |images| StreamImagesResponse { images }))
        })
        .await
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        let ImageStatusRequest { image, verbose } = request.into_inner();
        answer("ImageStatus", async {
            let name = named(image)?;
            let images = self.images.clone();
            blocking(move || {
                let Some(entry) = images.find(&name)? else {
                    return Ok(ImageStatusResponse::default());
                };
                let info = if verbose {
                    info(&images, &entry)?
                } else {
                    HashMap::new()
                };
                let image = Some(images.shown(&entry)?);
                Ok(ImageStatusResponse { image, info })
            })
            .await
        })
        .await
    }

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<PullImageResponse>, Status> {
        let request = request.into_inner();
        answer("PullImage", async {
            let name = named(request.image)?;
            let image_ref = self.images.pull(&name, request.auth.as_ref()).await?;
            Ok(PullImageResponse { image_ref })
        })
        .await
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        answer("RemoveImage", async {
            let name = named(request.into_inner().image)?;
            self.images.remove(&name).await?;
            Ok(RemoveImageResponse {})
        })
        .await
    }

    async fn image_fs_info(
        &self,
        _: Request<ImageFsInfoRequest>,
    ) -> Result<Response<ImageFsInfoResponse>, Status> {
        answer("ImageFsInfo", async {
            let images = self.images.clone();
            let root = self.live.get().root.clone();
            let layers = root.join("containers");
            let measured = layers.clone();
            let last = self.layers.clone();
            let (usage, (bytes, inodes)) =
                blocking(move || Ok((images.usage()?, last.measure(&measured)))).await?;
            Ok(ImageFsInfoResponse {
                image_filesystems: vec![filesystem(
                    &root.join("images"),
                    usage.layers.1 + usage.blobs.1,
                    usage.inodes + usage.blobs.0,
                )],
                container_filesystems: vec![filesystem(&layers, bytes, inodes)],
            })
        })
        .await
    }
}

impl Service {
    async fn listed(&self, filter: Option<ImageFilter>) -> Result<Vec<Image>> {
        let images = self.images.clone();
        let name = filter.and_then(|f| f.image).map(|spec| spec.image);
        blocking(move || {
            let entries = match name.filter(|name| !name.is_empty()) {
                Some(name) => images.find(&name)?.into_iter().collect(),
                None => images.list()?,
            };
            entries.iter().map(|entry| images.shown(entry)).collect()
        })
        .await
    }
}

/// The name in an image's spec.
fn named(spec: Option<ImageSpec>) -> Result<String> {
    match spec {
        Some(spec) if !spec.image.is_empty() => Ok(spec.image),
        Some(_) => Err(invalid("image.image", "is empty")),
        None => Err(invalid("image", "is not set")),
    }
}

/// What people look for with `crictl inspecti`.
fn info(images: &crate::images::Images, entry: &Entry) -> Result<HashMap<String, String>> {
    let image = images.store().image(&entry.stored[0].manifest)?;
    let chain = image_store::digest::chain_ids(&image.parsed_config.diff_ids);
    let config = image_store::manifest::json(&image.config.data)?;
    let info = json!({
        "chainID": chain.last(),
        "imageSpec": config,
        "manifests": entry.stored.iter().map(|s| s.manifest).collect::<Vec<_>>(),
    });
    Ok(HashMap::from([("info".to_owned(), info.to_string())]))
}

/// What is used of the file system that a directory is on.
pub(super) fn filesystem(dir: &Path, bytes: u64, inodes: u64) -> FilesystemUsage {
    FilesystemUsage {
        timestamp: time::now(),
        fs_id: Some(FilesystemIdentifier {
            mountpoint: dir.to_string_lossy().into_owned(),
        }),
        used_bytes: Some(UInt64Value { value: bytes }),
        inodes_used: Some(UInt64Value { value: inodes }),
    }
}
