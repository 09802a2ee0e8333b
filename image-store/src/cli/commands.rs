//! What each command does, in terms of the library.

use super::args::{Cli, Command, Format, Transfer};
use super::files;
use super::show;
use image_store::archive::{self, Archive, Form};
use image_store::commit;
use image_store::digest::Digest;
use image_store::manifest::Platform;
use image_store::pull::{self, Blobs};
use image_store::registry::auth::{self, Credentials};
use image_store::registry::hosts::Sources;
use image_store::registry::{Patience, Registry};
use image_store::store::gc::PARTIAL_AGE;
use image_store::{Error, ErrorKind, Reference, Result, Store};
use serde_json::json;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Runs the command that was given.
pub async fn run(cli: &Cli) -> Result<()> {
    match &cli.command {
        Command::Pull { image, transfer } => pull_image(cli, image, transfer).await,
        Command::Ls => ls(cli),
        Command::Inspect { image } => inspect(cli, image),
        Command::History { image } => history(cli, image),
        Command::Tag { image, name } => {
            let store = open(cli)?;
            store.tag(&store.resolve(image)?, &name.parse()?)
        }
        Command::Rm { images } => rm(cli, images),
        Command::Referrers { image } => referrers(cli, image).await,
        Command::Login { host, username, .. } => login(cli, host, username).await,
        Command::Logout { host } => logout(cli, host),
        Command::Gc { all } => gc(cli, *all),
        Command::Fsck { repair } => fsck(cli, *repair).await,
        Command::Df => df(cli),
        Command::Completions { shell } => {
            let mut command = <Cli as clap::CommandFactory>::command();
            clap_complete::generate(*shell, &mut command, "ocirun-image", &mut std::io::stdout());
            Ok(())
        }
        Command::Man { dir } => {
            let command = <Cli as clap::CommandFactory>::command();
            clap_mangen::generate_to(command, dir)
                .map_err(|e| Error::os(format!("write man pages to {dir:?}"), &e))
        }
        Command::Unpack { image, dir } => files::unpack(&open(cli)?, image, dir),
        Command::Bundle { image, dir } => files::bundle(&open(cli)?, image, dir),
        Command::Mount {
            image,
            target,
            upper,
            userns,
        } => {
            let how = files::How {
                upper: upper.as_deref(),
                userns: userns.as_deref(),
            };
            files::mount(&open(cli)?, image, target, how)
        }
        Command::Umount { target } => files::umount(&open(cli)?, target),
        Command::Diff { image, dir } => files::diff(&open(cli)?, image, dir, cli.json),
        Command::Commit {
            image,
            dir,
            name,
            message,
            latest,
        } => {
            let note = commit::Note {
                message,
                latest: *latest,
            };
            commit_image(cli, image, dir, name, note).await
        }
        Command::Push { image, destination } => push(cli, image, destination.as_deref()).await,
        Command::Import {
            source,
            name,
            replace,
            platform,
        } => {
            let platform = platform.clone().unwrap_or_else(Platform::host);
            import(cli, source, name.as_deref(), *replace, &platform).await
        }
        Command::Export {
            image,
            destination,
            format,
        } => export(cli, image, destination, *format),
    }
}

fn open(cli: &Cli) -> Result<Arc<Store>> {
    raise_descriptors();
    let root = cli
        .root
        .clone()
        .unwrap_or_else(super::rootless::default_root);
    Store::open(&root).map(Arc::new)
}

/// Many layers need many descriptors; the soft limit is often only a habit.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Without it, images of some hundred layers fail with a clear error.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

fn credential_files(cli: &Cli) -> Vec<PathBuf> {
    cli.authfile
        .as_ref()
        .map_or_else(auth::config_files, |file| vec![file.clone()])
}

fn registry(cli: &Cli) -> Registry {
    let mut sources = Sources::default();
    if !cli.hosts_dir.is_empty() {
        sources.certs.clone_from(&cli.hosts_dir);
    }
    if let Some(file) = &cli.registries_conf {
        sources.registries.clone_from(file);
    }
    let patience = Patience {
        window: Duration::from_secs(cli.stall_timeout),
        ..Patience::default()
    };
    Registry::new(sources, credential_files(cli), patience)
}

async fn pull_image(cli: &Cli, image: &str, transfer: &Transfer) -> Result<()> {
    let reference: Reference = image.parse()?;
    let store = open(cli)?;
    let options = pull::Options {
        platform: transfer.platform.clone().unwrap_or_else(Platform::host),
        blobs: if transfer.discard_blobs {
            Blobs::Discard
        } else {
            Blobs::Keep
        },
        parallel: transfer.parallel,
        progress: show::progress(cli.json, transfer.quiet),
    };
    let digest = pull::pull(&store, &Arc::new(registry(cli)), &reference, &options).await?;
    if cli.json {
        return show::line(
            &json!({"event": "done", "reference": reference.to_string(), "manifest": digest})
                .to_string(),
        );
    }
    show::line(&digest.to_string())
}

async fn push(cli: &Cli, image: &str, destination: Option<&str>) -> Result<()> {
    let store = open(cli)?;
    let destination: Reference = destination.unwrap_or(image).parse()?;
    let digest = store.resolve(image)?;
    image_store::push::push(&store, &registry(cli), &digest, &destination).await?;
    show::line(&digest.to_string())
}

async fn import(
    cli: &Cli,
    source: &Path,
    name: Option<&str>,
    replace: bool,
    platform: &Platform,
) -> Result<()> {
    let store = open(cli)?;
    let (archive, mut images) = Archive::open(source)?.images(platform)?;
    if let Some(name) = name {
        let [image] = &mut images[..] else {
            let text = format!(
                "{source:?} has {} images, which cannot share one name",
                images.len()
            );
            return Err(Error::new(ErrorKind::Invalid, text));
        };
        image.tag = Some(name.to_owned());
    }
    let archive = Arc::new(archive);
    for mut image in images {
        let tag = image
            .tag
            .as_deref()
            .filter(|tag| name.is_some() || tag.contains('/') || tag.contains(':'));
        let tag = tag
            .map(str::parse::<Reference>)
            .transpose()?
            .map(|reference| reference.to_string());
        let taken = tag
            .as_ref()
            .and_then(|tag| store.resolve(tag).ok())
            .is_some_and(|old| old != image.manifest.digest);
        if taken && !replace {
            let text = format!(
                "{:?} is another image here; use --replace to take its name",
                tag.unwrap_or_default()
            );
            return Err(Error::new(ErrorKind::AlreadyExists, text));
        }
        image.tag = tag;
        let options = pull::Options {
            platform: platform.clone(),
            blobs: Blobs::Keep,
            parallel: 3,
            progress: show::progress(cli.json, false),
        };
        let digest = pull::assemble(
            &store,
            pull::Origin::Archive(archive.clone()),
            image,
            &options,
        )
        .await?;
        show::line(&digest.to_string())?;
    }
    Ok(())
}

fn export(cli: &Cli, image: &str, destination: &Path, format: Format) -> Result<()> {
    let store = open(cli)?;
    let digest = store.resolve(image)?;
    let names = store
        .images()?
        .into_iter()
        .find(|s| s.manifest == digest)
        .map(|s| s.tags)
        .unwrap_or_default();
    let form = match format {
        Format::OciDir => Form::Directory,
        Format::OciArchive => Form::Archive,
        Format::DockerArchive => Form::Docker,
    };
    archive::export(&store, &store.image(&digest)?, &names, form, destination)
}

async fn commit_image(
    cli: &Cli,
    image: &str,
    dir: &Path,
    name: &str,
    note: commit::Note<'_>,
) -> Result<()> {
    let store = open(cli)?;
    let (layers, _lease, base) = files::layers(&store, image)?;
    let view = files::view(&store, &layers)?;
    let name: Reference = name.parse()?;
    let dir = files::open_dir(dir)?;
    let digest = commit::commit(&store, &base, (view.as_fd(), dir.as_fd()), &name, note).await?;
    show::line(&digest.to_string())
}

fn ls(cli: &Cli) -> Result<()> {
    let images = open(cli)?.images()?;
    if cli.json {
        return show::json(&images);
    }
    let mut rows = Vec::new();
    for image in &images {
        let names = if image.tags.is_empty() {
            vec!["<none>".to_owned()]
        } else {
            image.tags.clone()
        };
        for name in names {
            let id = image.config.hex().chars().take(12).collect();
            rows.push(vec![
                name,
                id,
                show::bytes(image.size),
                show::bytes(image.unique),
            ]);
        }
    }
    show::table(&["NAME", "ID", "SIZE", "UNIQUE"], &rows)
}

fn value(data: &[u8]) -> Result<serde_json::Value> {
    image_store::manifest::json(data)
}

fn inspect(cli: &Cli, image: &str) -> Result<()> {
    let store = open(cli)?;
    let digest = store.resolve(image)?;
    let image = store.image(&digest)?;
    let layers = image.layers.iter().map(|key| {
        let layer = store.layer(key)?;
        Ok(json!({"key": key, "diff_id": layer.as_ref().map(|l| l.diff_id), "disk": layer.as_ref().map(|l| l.disk)}))
    });
    let summary = store
        .images()?
        .into_iter()
        .find(|summary| summary.manifest == digest);
    show::json(&json!({
        "digest": digest,
        "tags": summary.as_ref().map(|s| &s.tags),
        "digests": summary.as_ref().map(|s| &s.digests),
        "manifest": value(&image.manifest.data)?,
        "config": value(&image.config.data)?,
        "layers": layers.collect::<Result<Vec<_>>>()?,
    }))
}

fn history(cli: &Cli, image: &str) -> Result<()> {
    let store = open(cli)?;
    let image = store.image(&store.resolve(image)?)?;
    let history = value(&image.config.data)?
        .get("history")
        .cloned()
        .unwrap_or_else(|| json!([]));
    if cli.json {
        return show::json(&history);
    }
    let text = |entry: &serde_json::Value, key: &str| {
        let text = entry
            .get(key)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default();
        text.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect::<String>()
    };
    let mut layers = image.parsed.layers.iter();
    let mut rows = Vec::new();
    for entry in history.as_array().unwrap_or(&Vec::new()) {
        let is_empty = entry
            .get("empty_layer")
            .and_then(serde_json::Value::as_bool)
            .unwrap_or(false);
        let layer = if is_empty { None } else { layers.next() };
        let size = layer.map_or_else(|| "-".to_owned(), |layer| show::bytes(layer.size));
        rows.push(vec![
            text(entry, "created"),
            size,
            text(entry, "created_by"),
        ]);
    }
    rows.reverse();
    show::table(&["CREATED", "COMPRESSED", "CREATED BY"], &rows)
}

fn rm(cli: &Cli, images: &[String]) -> Result<()> {
    let store = open(cli)?;
    for image in images {
        store.remove(image)?;
    }
    store.collect(PARTIAL_AGE).map(drop)
}

async fn referrers(cli: &Cli, image: &str) -> Result<()> {
    let registry = registry(cli);
    let reference: Reference = image.parse()?;
    let digest = match reference.digest {
        Some(digest) => digest,
        None => registry.manifest(&reference).await?.digest,
    };
    let found = registry.referrers(&reference.at(digest), &digest).await?;
    if cli.json {
        return show::json(&found);
    }
    let text = |entry: &serde_json::Value, key: &str| {
        entry
            .get(key)
            .and_then(serde_json::Value::as_str)
            .unwrap_or("-")
            .to_owned()
    };
    let rows = found
        .iter()
        .map(|entry| vec![text(entry, "digest"), text(entry, "artifactType")])
        .collect::<Vec<_>>();
    show::table(&["DIGEST", "TYPE"], &rows)
}

async fn login(cli: &Cli, host: &str, username: &str) -> Result<()> {
    let mut password = String::new();
    std::io::stdin()
        .read_line(&mut password)
        .map_err(|e| Error::os("read password", &e))?;
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    let credentials = Credentials::Basic(username.to_owned(), password);
    registry(cli)
        .with_credentials(Some(credentials.clone()))
        .ping(host)
        .await?;
    let files = credential_files(cli);
    let file = files.first().ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "no place for credentials: HOME is not set",
        )
    })?;
    auth::store(file, host, &credentials)
}

fn logout(cli: &Cli, host: &str) -> Result<()> {
    let mut known = false;
    for file in credential_files(cli) {
        known |= auth::forget(&file, host)?;
    }
    if known {
        Ok(())
    } else {
        Err(Error::new(
            ErrorKind::NotFound,
            format!("no credentials for {host:?}"),
        ))
    }
}

fn gc(cli: &Cli, all: bool) -> Result<()> {
    let age = if all { Duration::ZERO } else { PARTIAL_AGE };
    let collected = open(cli)?.collect(age)?;
    if cli.json {
        return show::json(&collected);
    }
    let (layers, blobs, leftovers) = (collected.layers, collected.blobs, collected.leftovers);
    show::line(&format!(
        "{layers} layers, {blobs} blobs, {leftovers} leftovers, {}",
        show::bytes(collected.bytes)
    ))
}

async fn fsck(cli: &Cli, repair: bool) -> Result<()> {
    let store = open(cli)?;
    let report = store.check()?;
    if cli.json {
        show::json(&report)?;
    } else {
        show::line(&format!(
            "{} layers, {} blobs, {} documents read",
            report.layers, report.blobs, report.documents
        ))?;
        for damage in &report.damaged {
            show::line(&format!(
                "damaged {} {}: {}",
                damage.kind, damage.key, damage.what
            ))?;
        }
        for (digest, names) in &report.quarantined {
            show::line(&format!("quarantined {digest} {}", names.join(" ")))?;
        }
    }
    if repair {
        store.quarantine(&report.damaged)?;
        return repair_images(cli, &store).await;
    }
    let (damaged, waiting) = (report.damaged.len(), report.quarantined.len());
    if damaged + waiting == 0 {
        return Ok(());
    }
    let text = format!("{damaged} parts are damaged, {waiting} images wait for --repair");
    Err(Error::new(ErrorKind::Corrupt, text))
}

/// Fetches again what was taken out of use. What cannot be fetched waits for another time.
async fn repair_images(cli: &Cli, store: &Arc<Store>) -> Result<()> {
    let registry = Arc::new(registry(cli));
    let mut failed = None;
    for (digest, names) in store.quarantined()? {
        match fetch_again(store, &registry, &digest).await {
            Ok(()) => {
                store.restore(&digest)?;
                show::line(&format!("fetched {digest} {} again", names.join(" ")))?;
            }
            Err(error) => {
                let error = error.at(format!("{digest} {}", names.join(" ")));
                failed = Some(match failed {
                    Some(before) => Error::new(error.kind(), format!("{before}; {error}")),
                    None => error,
                });
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn fetch_again(store: &Arc<Store>, registry: &Arc<Registry>, digest: &Digest) -> Result<()> {
    let mut failed = Error::new(ErrorKind::NotFound, "it is not known where it came from");
    for repository in store.sources(digest)? {
        let reference: Reference = format!("{repository}@{digest}").parse()?;
        let options = pull::Options {
            platform: Platform::host(),
            blobs: Blobs::Keep,
            parallel: 3,
            progress: show::progress(false, true),
        };
        match pull::pull(store, registry, &reference, &options).await {
            Ok(_) => return Ok(()),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn df(cli: &Cli) -> Result<()> {
    let usage = open(cli)?.usage()?;
    if cli.json {
        return show::json(&usage);
    }
    let row = |what: &str, (count, bytes): (u64, u64)| {
        vec![what.to_owned(), count.to_string(), show::bytes(bytes)]
    };
    let rows = [row("layers", usage.layers), row("blobs", usage.blobs)];
    show::table(&["WHAT", "COUNT", "SIZE"], &rows)?;
    let reclaimable = show::bytes(usage.reclaimable);
    show::line(&format!(
        "{} images, {reclaimable} reclaimable, {} unfinished",
        usage.images, usage.staging
    ))
}
