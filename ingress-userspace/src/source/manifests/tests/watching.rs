//! Changes of files are told.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::*;

struct Followed {
    changes: Receiver<Loaded>,
    _watch: Watch,
}

impl Followed {
    fn new(path: &Path) -> (Self, Loaded) {
        let mut manifests = Manifests::open(path).unwrap().watch().unwrap();
        let loaded = manifests.load();
        (Self::of(manifests), loaded)
    }

    fn of(manifests: Watched) -> Self {
        let (sender, changes) = mpsc::channel();
        let watch = manifests
            .follow(move |loaded| drop(sender.send(loaded)))
            .unwrap();
        Self {
            changes,
            _watch: watch,
        }
    }

    /// Waits for the state that has these Services; states on the way there are let pass.
    fn wait_for(&self, names: &[&str]) -> Loaded {
        let deadline = Instant::now() + PATIENCE;
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
    let (followed, loaded) = Followed::new(&dir.0);
    assert_eq!(services(&loaded), ["a"]);

    dir.write("a.yaml", &service("b"));
    followed.wait_for(&["b"]);
    dir.write("c.yaml", &service("c"));
    followed.wait_for(&["b", "c"]);
    // As editors save: another file takes the name.
    dir.write(".a.yaml.tmp", &service("a"));
    fs::rename(dir.path(".a.yaml.tmp"), dir.path("a.yaml")).unwrap();
    followed.wait_for(&["a", "c"]);
    fs::remove_file(dir.path("a.yaml")).unwrap();
    followed.wait_for(&["c"]);
}

#[test]
fn a_broken_file_reports_its_problem_and_its_last_good_content() {
    let dir = Directory::new("watch-broken");
    dir.write("a.yaml", &service("a"));
    let (followed, _) = Followed::new(&dir.0);
    dir.write("a.yaml", "kind: [");
    let loaded = followed.wait_for(&["a"]);
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
    let (followed, loaded) = Followed::new(&dir.0);
    assert_eq!(services(&loaded), ["one"]);

    for (old, new) in [("..1", "..2"), ("..2", "..3")] {
        version(new, new);
        link(new, dir.path("..data_tmp")).unwrap();
        fs::rename(dir.path("..data_tmp"), dir.path("..data")).unwrap();
        fs::remove_dir_all(dir.path(old)).unwrap();
        followed.wait_for(&[new]);
    }
}

#[test]
fn the_target_of_a_symbolic_link_is_watched() {
    let dir = Directory::new("watch-link");
    let target = Directory::new("watch-link-target");
    target.write("real", &service("a"));
    std::os::unix::fs::symlink(target.path("real"), dir.path("a.yaml")).unwrap();
    let (followed, _) = Followed::new(&dir.0);
    target.write("real", &service("b"));
    followed.wait_for(&["b"]);
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
    let (followed, _) = Followed::new(&path);
    fs::rename(&path, dir.path("gone")).unwrap();
    make("b");
    followed.wait_for(&["b"]);
    dir.write("manifests/a.yaml", &service("c"));
    followed.wait_for(&["c"]);
}

#[test]
fn a_single_file_is_watched() {
    let dir = Directory::new("watch-file");
    dir.write("one.yaml", &service("a"));
    let (followed, _) = Followed::new(&dir.path("one.yaml"));
    dir.write("one.yaml", &service("b"));
    followed.wait_for(&["b"]);
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
    let (followed, loaded) = Followed::new(&dir.0);
    dir.write("b.yaml", &format!("{}---\n{}", port(81), service("c")));
    let changed = followed.wait_for(&["a", "b", "c"]);
    let (before, after) = (&loaded.snapshot, &changed.snapshot);
    let changed = after.services.iter().nth(1).unwrap();
    assert_eq!(changed.ports[0].port, 81);
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
    let (followed, _) = Followed::new(&dir.0);
    dir.write("b.yaml", &format!("{}---\n{}", service("b"), service("c")));
    followed.wait_for(&["a", "b", "c"]);
    dir.write("b.yaml", &service("a"));
    assert_eq!(followed.wait_for(&["a"]).problems.len(), 1);
    dir.write("b.yaml", &service("b"));
    assert_eq!(followed.wait_for(&["a", "b"]).problems, []);
}

#[test]
fn a_file_that_is_touched_but_not_changed_is_not_reported() {
    let dir = Directory::new("watch-touch");
    dir.write("a.yaml", &service("a"));
    let (followed, _) = Followed::new(&dir.0);
    dir.write("a.yaml", &service("a"));
    dir.write("notes.txt", "hello");
    dir.write("b.yaml", &service("b"));
    let first = followed.changes.recv_timeout(PATIENCE).unwrap();
    assert_eq!(services(&first), ["a", "b"]);
}

#[test]
fn changes_before_watching_begins_are_reported() {
    let dir = Directory::new("watch-early");
    let target = Directory::new("watch-early-target");
    dir.write("a.yaml", &service("a"));
    target.write("real", &service("l"));
    std::os::unix::fs::symlink(target.path("real"), dir.path("link.yaml")).unwrap();
    let mut manifests = Manifests::open(&dir.0).unwrap().watch().unwrap();
    dir.write("b.yaml", &service("b"));
    assert_eq!(services(&manifests.load()), ["a", "b", "l"]);
    dir.write("a.yaml", &service("a2"));
    target.write("real", &service("l2"));
    let followed = Followed::of(manifests);
    followed.wait_for(&["a2", "b", "l2"]);
}

#[test]
fn a_file_that_is_written_right_after_the_first_reading_is_read_by_itself() {
    let dir = Directory::new("watch-alone");
    let elsewhere = Directory::new("watch-alone-elsewhere");
    dir.write("a.yaml", &service("a"));
    dir.write("b.yaml", &service("b"));
    fs::hard_link(dir.path("b.yaml"), elsewhere.path("b")).unwrap();
    let mut manifests = Manifests::open(&dir.0).unwrap().watch().unwrap();
    manifests.load();
    // Nobody is told of a file that is written by a name in another directory: who knows of it
    // has looked at everything.
    elsewhere.write("b", &service("b2"));
    dir.write("a.yaml", &service("a2"));
    let first = Followed::of(manifests).changes.recv_timeout(PATIENCE);
    assert_eq!(services(&first.unwrap()), ["a2", "b"]);
}

#[test]
fn an_object_that_changes_leaves_other_kinds_of_its_file_as_they_are() {
    let dir = Directory::new("watch-kinds");
    let slice = |address: &str| {
        format!(
            "kind: EndpointSlice\napiVersion: discovery.k8s.io/v1\nmetadata: {{name: a}}\n\
             addressType: IPv4\nendpoints: [{{addresses: [{address}]}}]\n"
        )
    };
    let file = |address: &str| format!("{}---\n{}", service("a"), slice(address));
    dir.write("a.yaml", &file("10.0.0.1"));
    let (followed, first) = Followed::new(&dir.0);
    dir.write("a.yaml", &file("10.0.0.2"));
    let changed = followed.wait_for(&["a"]);
    let (before, after) = (&first.snapshot, &changed.snapshot);
    assert!(!after.endpoint_slices.is(&before.endpoint_slices));
    assert!(after.services.is(&before.services));
}

#[test]
fn a_rehearsal_of_a_change_changes_nothing() {
    let dir = Directory::new("watch-rehearsal");
    let slice = "---\nkind: EndpointSlice\napiVersion: discovery.k8s.io/v1\n\
                 metadata: {name: a}\naddressType: IPv4\nendpoints: []\n";
    dir.write("a.yaml", &(service("a") + slice));
    let mut manifests = Manifests::open(&dir.0).unwrap();
    let before = manifests.load().snapshot;
    manifests.rehearse();
    dir.write("a.yaml", "broken: [");
    manifests.rehearse();
    fs::remove_file(dir.path("a.yaml")).unwrap();
    manifests.rehearse();
    dir.write("a.yaml", &(service("a") + slice));
    let after = manifests.load().snapshot;
    assert!(after.endpoint_slices.is(&before.endpoint_slices));
    assert!(after.services.is(&before.services));
}

const PATIENCE: Duration = Duration::from_secs(10);
