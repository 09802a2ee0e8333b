//! Every attack that an image store has to withstand, and every case that containerd's archive tests name, is played by a
//! test that exists: this is the list.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

use ocirun_tests::suite;

/// Where tests are.
const SOURCES: [(&str, &str); 15] = [
    ("unpack", include_str!("image_unpack.rs")),
    ("links", include_str!("image_links.rs")),
    ("limits", include_str!("image_limits.rs")),
    ("registry", include_str!("image_registry.rs")),
    ("crash", include_str!("image_crash.rs")),
    ("power", include_str!("image_power.rs")),
    ("commit", include_str!("image_commit.rs")),
    (
        "manifest",
        include_str!("../../image-store/src/manifest.rs"),
    ),
    ("digest", include_str!("../../image-store/src/digest.rs")),
    ("tree", include_str!("../../image-store/src/tree.rs")),
    (
        "http",
        include_str!("../../image-store/src/registry/http.rs"),
    ),
    (
        "fields",
        include_str!("../../image-store/src/tar/fields.rs"),
    ),
    ("pax", include_str!("../../image-store/src/tar/pax.rs")),
    ("use", include_str!("image_use.rs")),
    ("peers", include_str!("image_peers.rs")),
];

/// What is attacked, and the tests that do it.
const ATTACKS: [(&str, &[&str]); 32] = [
    (
        "names that lead up or are absolute; the root itself",
        &["unpack names_are_clamped", "tree paths_are_clamped"],
    ),
    (
        "symbolic links as parents",
        &[
            "links breakouts_by_symlink",
            "links links_over_lower_layers",
            "tree lookups_stay_inside_and_end",
        ],
    ),
    (
        "metadata through symbolic links",
        &["links metadata_belongs_to_the_entry"],
    ),
    (
        "hard links",
        &[
            "links breakouts_by_hard_link",
            "links hard_links_to_symbolic_links",
            "limits times_and_names_at_their_ends",
        ],
    ),
    (
        "whiteouts",
        &[
            "links whiteouts",
            "links whiteouts_are_for_lower_layers_only",
        ],
    ),
    (
        "overlay's own marks",
        &["unpack marks_of_overlay_are_refused_or_dropped"],
    ),
    (
        "devices, pipes, sockets",
        &[
            "unpack special_files",
            "limits nobody_else_reaches_what_is_kept",
            "commit sockets_are_left_out",
        ],
    ),
    (
        "set-id programs within the machine's reach",
        &["limits nobody_else_reaches_what_is_kept"],
    ),
    (
        "extended attributes, their size and names",
        &[
            "unpack headers_have_bounds",
            "limits attributes_of_directories_have_a_budget",
        ],
    ),
    (
        "sizes that read two ways",
        &[
            "unpack sizes_cannot_be_read_two_ways",
            "pax records_are_read_exactly",
            "fields numbers_in_both_notations",
        ],
    ),
    (
        "oversized headers",
        &[
            "unpack headers_have_bounds",
            "limits sparse_maps_have_bounds",
        ],
    ),
    (
        "huge sparse files",
        &["unpack sparse_files_stay_sparse_and_bounded"],
    ),
    (
        "bombs",
        &[
            "limits bombs_end_where_the_space_does",
            "limits the_last_of_a_disk_is_left_to_others",
            "limits entries_are_counted",
            "unpack streams_in_every_compression",
        ],
    ),
    ("inodes", &["limits bombs_end_where_the_space_does"]),
    ("duplicates", &["unpack duplicates_merge_and_the_last_wins"]),
    (
        "names that look alike, or are no text",
        &[
            "limits a_directory_that_ignores_case_is_refused",
            "limits times_and_names_at_their_ends",
            "unpack names_are_clamped",
        ],
    ),
    (
        "ids and times at their ends",
        &[
            "unpack special_files",
            "limits times_and_names_at_their_ends",
            "fields times_are_clamped",
        ],
    ),
    (
        "bytes after the end, several members and frames",
        &["unpack streams_in_every_compression"],
    ),
    (
        "digests as paths",
        &[
            "digest only_exact_hex_is_a_digest",
            "registry documents_that_lie_are_refused",
        ],
    ),
    (
        "wrong size or digest",
        &[
            "registry wrong_bytes_are_refused",
            "registry mirrors_take_over",
        ],
    ),
    (
        "wrong DiffID, wrong count of layers",
        &[
            "registry documents_that_lie_are_refused",
            "manifest configs_and_layers_must_agree",
        ],
    ),
    (
        "manifest and index in one",
        &[
            "manifest documents_that_are_two_things_are_refused",
            "limits documents_lead_nowhere_else",
        ],
    ),
    (
        "documents that are too large",
        &[
            "registry wrong_bytes_are_refused",
            "manifest budgets_of_documents",
            "limits answers_about_tokens_have_bounds",
        ],
    ),
    (
        "media types",
        &[
            "manifest layer_types",
            "limits documents_lead_nowhere_else",
            "unpack streams_in_every_compression",
        ],
    ),
    (
        "foreign addresses, redirects, realms",
        &[
            "registry credentials_go_nowhere_else",
            "limits documents_lead_nowhere_else",
            "http link_local_addresses",
        ],
    ),
    ("embedded data", &["manifest embedded_data_is_checked"]),
    (
        "what a config says",
        &["use bundles_of_hostile_images", "limits labels_stay_labels"],
    ),
    (
        "archives to import",
        &[
            "limits archives_name_only_their_members",
            "registry documents_that_lie_are_refused",
        ],
    ),
    (
        "changes while it is unpacked",
        &["limits nobody_else_reaches_what_is_kept"],
    ),
    (
        "two views of one layer",
        &["registry documents_that_lie_are_refused"],
    ),
    ("tags that move", &["limits a_tag_is_resolved_once"]),
    (
        "crash and damage",
        &[
            "crash damage_is_found_and_repaired",
            "crash a_killed_pull_leaves_nothing_broken",
            "power a_power_loss_takes_nothing_that_was_acknowledged",
        ],
    ),
];

/// Names that stand beside the case in the source.
const CONTAINERD: &str = "\
    SymlinkAbsolute SymlinkUpAndOut SymlinkMultipleAbsolute SymlinkMultipleRelative SymlinkEmptyFile HardlinkRelative \
    HardlinkDownAndOut HardlinkAbsolute HardlinkRelativeLong HardlinkRelativeUpAndOut HardlinkDirectRelative \
    HardlinkDirectAbsolute SymlinkParentDirectory SymlinkEmptyFilename SymlinkParentRelative SymlinkSlashEnded \
    SymlinkOverrideDirectory SymlinkOverrideDirectoryRelative DirectoryOverrideSymlink \
    DirectoryOverrideSymlinkAndHardlink WhiteoutRootParent WhiteoutParent WhiteoutRoot WhiteoutCurrentDirectory \
    WhiteoutSymlink WhiteoutSymlinkPath WhiteoutDirectoryName WhiteoutDeadSymlinkParent WhiteoutRelativePath \
    HardlinkSymlinkBeforeCreateTarget HardlinkSymlinkRelative HardlinkSymlinkAbsolute HardlinkSymlinkChmod \
    RelativeSymlinks Symlinks TarWithXattr DirectoryCreation EmptyDiff ParentInclusion HardlinkParentInclusion \
    UpdateDirectoryPermission HardlinkUpdatedParent WhiteoutIncludesParents WhiteoutParentRemoval IgnoreSockets \
    SourceDateEpoch SymlinkOverridePath";

fn every_attack_has_a_test_that_runs() {
    for (attack, tests) in ATTACKS {
        for test in tests {
            let (file, name) = test.split_once(' ').unwrap();
            let source = SOURCES.iter().find(|(known, _)| *known == file).unwrap().1;
            let at = source.find(&format!("fn {name}()"));
            let at = at.unwrap_or_else(|| panic!("{attack}: no test {test}"));
            let runs = match source.find("suite! {") {
                Some(suite) => words(&source[suite..]).any(|word| word == name),
                None => source[..at].trim_end().ends_with("#[test]"),
            };
            assert!(runs, "{attack}: {test} is not run");
        }
    }
}

fn every_case_of_containerd_is_named() {
    for case in CONTAINERD.split_whitespace() {
        let is_named = SOURCES
            .iter()
            .any(|(_, source)| words(source).any(|word| word == case));
        assert!(is_named, "{case}");
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

suite! {
    &[] => [every_attack_has_a_test_that_runs, every_case_of_containerd_is_named],
}
