-- The only authority over the store: what no row names is garbage. `boot` is the boot in which a row was made while its
-- files were not yet known to be on disk; after another boot such a row counts for nothing.
CREATE TABLE IF NOT EXISTS document (
    digest TEXT PRIMARY KEY,
    media_type TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS blob (
    digest TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    boot TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS layer (
    key TEXT PRIMARY KEY,
    diff_id TEXT NOT NULL,
    seal TEXT NOT NULL,
    disk INTEGER NOT NULL,
    inodes INTEGER NOT NULL,
    boot TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS image (
    manifest TEXT PRIMARY KEY REFERENCES document(digest),
    config TEXT NOT NULL REFERENCES document(digest),
    created INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS image_layer (
    manifest TEXT NOT NULL REFERENCES image(manifest) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    layer TEXT NOT NULL REFERENCES layer(key),
    blob TEXT NOT NULL,
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    PRIMARY KEY (manifest, position)
) STRICT;
CREATE INDEX IF NOT EXISTS image_layer_by_layer ON image_layer(layer);
CREATE TABLE IF NOT EXISTS tag (
    name TEXT PRIMARY KEY,
    manifest TEXT NOT NULL REFERENCES image(manifest) ON DELETE CASCADE,
    resolved TEXT NOT NULL,
    updated INTEGER NOT NULL
) STRICT;
-- Indexes by which an image was reached: their digests name it too, also where no tag does.
CREATE TABLE IF NOT EXISTS reached (
    resolved TEXT NOT NULL,
    manifest TEXT NOT NULL REFERENCES image(manifest) ON DELETE CASCADE,
    PRIMARY KEY (resolved, manifest)
) STRICT;
-- Where a digest was seen: for mounts on push and for fetching what was damaged.
CREATE TABLE IF NOT EXISTS source (
    digest TEXT NOT NULL,
    repository TEXT NOT NULL,
    PRIMARY KEY (digest, repository)
) STRICT;
-- Images that were damaged, with their names, until they are fetched again; an image without a name has an empty one.
CREATE TABLE IF NOT EXISTS quarantine (
    manifest TEXT NOT NULL,
    name TEXT NOT NULL,
    resolved TEXT NOT NULL,
    PRIMARY KEY (manifest, name)
) STRICT;
CREATE TABLE IF NOT EXISTS lease (
    id TEXT PRIMARY KEY,
    boot TEXT,
    expires INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS lease_item (
    lease TEXT NOT NULL REFERENCES lease(id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (lease, kind, key)
) STRICT;
-- Uploads that were begun: the address by which the registry knows them.
CREATE TABLE IF NOT EXISTS upload (
    target TEXT NOT NULL,
    digest TEXT NOT NULL,
    session TEXT NOT NULL,
    updated INTEGER NOT NULL,
    PRIMARY KEY (target, digest)
) STRICT;
