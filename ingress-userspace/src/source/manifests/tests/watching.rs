//! Changes of files are told.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::*;

struct Watched {
    changes: Receiver<Loaded>,
    _watch: Watch,
}

impl Watched {
    fn new(path: &Path) -> (Self, Loaded) {
        let mut manifests = Manifests::open(path).unwrap();
        let loaded = manifests.load();
        let (sender, changes) = mpsc::channel();
        let watch = manifests
            .watch(move |loaded| drop(sender.send(loaded)))
            .unwrap();
        (
            Self {
                changes,
                _watch: watch,
            },
            loaded,
        )
    }

    /// Waits for the state that has these Services; states on the way there are let pass.
    fn wait_for(&self, names: &[&str]) -> Loaded {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let loaded = self
                .changes
                .recv_timeout(left)
                .expect("a change is reported");
            if services(&loaded) == names {
                return loaded;
            }
        }
    }
}

#[test]
fn files_written_created_renamed_and_deleted_are_reported() {
    let dir = Directory::new("watch");
    dir.write("a.yaml", &service("a"));
    let (watched, loaded) = Watched::new(&dir.0);
    assert_eq!(services(&loaded), ["a"]);

    dir.write("a.yaml", &service("b"));
    watched.wait_for(&["b"]);
    dir.write("c.yaml", &service("c"));
    watched.wait_for(&["b", "c"]);
    // As editors save: another file takes the name.
    dir.write(".a.yaml.tmp", &service("a"));
    fs::rename(dir.path(".a.yaml.tmp"), dir.path("a.yaml")).unwrap();
    watched.wait_for(&["a", "c"]);
    fs::remove_file(dir.path("a.yaml")).unwrap();
    watched.wait_for(&["c"]);
}

#[test]
fn a_broken_file_reports_its_problem_and_its_last_good_content() {
    let dir = Directory::new("watch-broken");
    dir.write("a.yaml", &service("a"));
    let (watched, _) = Watched::new(&dir.0);
    dir.write("a.yaml", "kind: [");
    let loaded = watched.wait_for(&["a"]);
    assert_eq!(loaded.problems.len(), 1);
}

#[test]
fn the_swap_of_a_config_map_volume_is_reported() {
    let dir = Directory::new("watch-volume");
    let version = |name: &str, service_name: &str| {
        fs::create_dir(dir.path(name)).unwrap();
        dir.write(&format!("{name}/a.yaml"), &service(service_name));
    };
    let link = std::os::unix::fs::symlink::<&str, PathBuf>;
    version("..1", "one");
    link("..1", dir.path("..data")).unwrap();
    link("..data/a.yaml", dir.path("a.yaml")).unwrap();
    let (watched, loaded) = Watched::new(&dir.0);
    assert_eq!(services(&loaded), ["one"]);

    for (old, new) in [("..1", "..2"), ("..2", "..3")] {
        version(new, new);
        link(new, dir.path("..data_tmp")).unwrap();
        fs::rename(dir.path("..data_tmp"), dir.path("..data")).unwrap();
        fs::remove_dir_all(dir.path(old)).unwrap();
        watched.wait_for(&[new]);
    }
}

#[test]
fn the_target_of_a_symbolic_link_is_watched() {
    let dir = Directory::new("watch-link");
    let target = Directory::new("watch-link-target");
    target.write("real", &service("a"));
    std::os::unix::fs::symlink(target.path("real"), dir.path("a.yaml")).unwrap();
    let (watched, _) = Watched::new(&dir.0);
    target.write("real", &service("b"));
    watched.wait_for(&["b"]);
}

#[test]
fn a_directory_that_is_replaced_is_read_again() {
    let dir = Directory::new("watch-replaced");
    let path = dir.path("manifests");
    let make = |name: &str| {
        fs::create_dir(&path).unwrap();
        dir.write("manifests/a.yaml", &service(name));
    };
    make("a");
    let (watched, _) = Watched::new(&path);
    fs::rename(&path, dir.path("gone")).unwrap();
    make("b");
    watched.wait_for(&["b"]);
    dir.write("manifests/a.yaml", &service("c"));
    watched.wait_for(&["c"]);
}

#[test]
fn a_single_file_is_watched() {
    let dir = Directory::new("watch-file");
    dir.write("one.yaml", &service("a"));
    let (watched, _) = Watched::new(&dir.path("one.yaml"));
    dir.write("one.yaml", &service("b"));
    watched.wait_for(&["b"]);
}

#[test]
fn a_file_written_again_leaves_the_objects_of_others_and_its_unchanged_ones_as_they_are() {
    let dir = Directory::new("watch-same");
    let port = |number: u16| {
        format!(
            "kind: Service\napiVersion: v1\nmetadata: {{name: b}}\nspec: {{ports: [{{port: {number}}}]}}\n"
        )
    };
    dir.write("a.yaml", &service("a"));
    dir.write("b.yaml", &format!("{}---\n{}", port(80), service("c")));
    let (watched, loaded) = Watched::new(&dir.0);
    dir.write("b.yaml", &format!("{}---\n{}", port(81), service("c")));
    let changed = watched.wait_for(&["a", "b", "c"]);
    let (before, after) = (&loaded.snapshot, &changed.snapshot);
    assert_eq!(after.services[1].ports[0].port, 81);
    let same = before.services.iter().zip(&after.services);
    let same: Vec<_> = same.map(|(a, b)| Arc::ptr_eq(a, b)).collect();
    assert_eq!(same, [true, false, true]);
    assert!(after.ingresses.is(&before.ingresses));
}

#[test]
fn objects_that_come_and_go_in_a_file_and_duplicates_are_reported() {
    let dir = Directory::new("watch-places");
    dir.write("a.yaml", &service("a"));
    dir.write("b.yaml", &service("b"));
    let (watched, _) = Watched::new(&dir.0);
    dir.write("b.yaml", &format!("{}---\n{}", service("b"), service("c")));
    watched.wait_for(&["a", "b", "c"]);
    dir.write("b.yaml", &service("a"));
    assert_eq!(watched.wait_for(&["a"]).problems.len(), 1);
    dir.write("b.yaml", &service("b"));
    assert_eq!(watched.wait_for(&["a", "b"]).problems, []);
}

#[test]
fn a_file_that_is_touched_but_not_changed_is_not_reported() {
    let dir = Directory::new("watch-touch");
    dir.write("a.yaml", &service("a"));
    let (watched, _) = Watched::new(&dir.0);
    dir.write("a.yaml", &service("a"));
    dir.write("notes.txt", "hello");
    dir.write("b.yaml", &service("b"));
    let first = watched
        .changes
        .recv_timeout(Duration::from_secs(10))
        .unwrap();
    assert_eq!(services(&first), ["a", "b"]);
}
