//! Manifests on real files.

use std::fmt::Write as _;
use std::fs::File;

use ingress_core::object::{IngressPath, PathType};

use super::*;

mod watching;

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("manifests-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn load(&self) -> Loaded {
        Manifests::open(&self.0).unwrap().load()
    }

    /// Loads one file and gives its one problem without the directory.
    fn problem(&self, name: &str, text: &str) -> String {
        self.write(name, text);
        let problems = self.load().problems;
        fs::remove_file(self.path(name)).unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0]
            .to_string()
            .replace(&format!("{}/", self.0.display()), "")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n")
}

fn services(loaded: &Loaded) -> Vec<&str> {
    let services = loaded.snapshot.services.iter();
    services.map(|service| &*service.meta.name).collect()
}

mod reading {
    use super::*;

    #[test]
    fn several_documents_in_a_file_are_read() {
        let dir = Directory::new("documents");
        let [a, b, c] = ["a", "b", "c"].map(service);
        dir.write(
            "all.yaml",
            &format!("# head\n%YAML 1.2\n---\n{a}--- # b\n{b}...\n---\n\n---\n{c}"),
        );
        let loaded = dir.load();
        assert_eq!(loaded.problems, []);
        assert_eq!(services(&loaded), ["a", "b", "c"]);
    }

    #[test]
    fn files_are_read_in_order_of_names_and_others_are_left_alone() {
        let dir = Directory::new("files");
        dir.write("b.yml", &service("b"));
        dir.write("a.yaml", &service("a"));
        dir.write(
            "c.json",
            r#"{"apiVersion": "v1",	"kind": "Service", "metadata": {"name": "c"}}"#,
        );
        dir.write(".hidden.yaml", "{");
        dir.write("notes.txt", "{");
        fs::create_dir(dir.path("sub.yaml")).unwrap();
        let loaded = dir.load();
        assert_eq!(loaded.problems, []);
        assert_eq!(services(&loaded), ["a", "b", "c"]);
    }

    #[test]
    fn one_file_can_be_the_source() {
        let dir = Directory::new("one-file");
        dir.write("other.yaml", &service("other"));
        dir.write("one", &service("one"));
        let loaded = Manifests::open(dir.path("one")).unwrap().load();
        assert_eq!(services(&loaded), ["one"]);
    }

    #[test]
    fn a_missing_path_is_an_error() {
        let dir = Directory::new("missing");
        let error = Manifests::open(dir.path("nope")).unwrap_err();
        assert!(matches!(error, ManifestsError::Open { .. }), "{error}");
    }

    #[test]
    fn items_of_lists_are_read_and_other_kinds_skipped() {
        let dir = Directory::new("lists");
        dir.write(
            "list.yaml",
            "items:\n- metadata: {name: a}\n  kind: Service\n  apiVersion: v1\n\
             - {apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: [1, {}]}\n\
             - {apiVersion: v1, kind: Service, metadata: {name: b}}\n\
             kind: List\napiVersion: v1\n\
             ---\n{apiVersion: v1, kind: ServiceList, items: [{metadata: {name: c}}]}\n\
             ---\n{apiVersion: example.com/v1, kind: PriceList, items: 3}\n",
        );
        dir.write(
            "list.json",
            r#"{"kind": "List", "apiVersion": "v1", "items": [
                {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "d"}}]}"#,
        );
        let loaded = dir.load();
        assert_eq!(loaded.problems, []);
        assert_eq!(services(&loaded), ["d", "a", "b", "c"]);
    }

    #[test]
    fn a_missing_namespace_is_default() {
        let dir = Directory::new("namespace");
        dir.write("a.yaml", &service("a"));
        let loaded = dir.load();
        assert_eq!(
            &*loaded
                .snapshot
                .services
                .iter()
                .next()
                .unwrap()
                .meta
                .namespace,
            "default"
        );
    }

    #[test]
    fn secrets_take_string_data_and_broken_lines_of_base64() {
        let dir = Directory::new("secret");
        dir.write(
            "s.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/tls\n\
             data:\n  tls.key: b2xk\n  tls.crt: |\n    Y2Vy\n    dA==\nstringData:\n  tls.key: key\n",
        );
        let loaded = dir.load();
        assert_eq!(loaded.problems, []);
        let secret = loaded.snapshot.secrets.iter().next().unwrap();
        let data = secret.data.as_ref().unwrap();
        assert_eq!(data["tls.crt"].0, b"cert");
        assert_eq!(data["tls.key"].0, b"key");
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    }

    #[test]
    fn beta_ingresses_are_read_as_v1() {
        let dir = Directory::new("beta");
        for version in ["extensions/v1beta1", "networking.k8s.io/v1beta1"] {
            let spec = "spec:\n  backend: {serviceName: rest, servicePort: http}\n  rules:\n  - \
                 host: shop.test\n    http:\n      paths:\n      - path: /a\n        backend:\n          \
                 serviceName: web\n          servicePort: 80\n      - path: /b\n        pathType: Exact\n        \
                 backend: {serviceName: web, servicePort: \"81\"}\n";
            let head = format!("apiVersion: {version}\nkind: Ingress\nmetadata: {{name: old}}\n");
            dir.write("a.yaml", &(head + spec));
            let loaded = dir.load();
            assert_eq!(loaded.problems, []);
            let ingress = loaded.snapshot.ingresses.iter().next().unwrap();
            let default = ingress.default_backend.as_ref().unwrap();
            let service = default.service.as_ref().unwrap();
            assert_eq!(service.port_name.as_deref(), Some("http"));
            let [a, b] = &ingress.rules[0].paths[..] else {
                panic!()
            };
            let number = |path: &IngressPath| path.backend.service.as_ref().unwrap().port_number;
            assert_eq!(a.path_type, PathType::ImplementationSpecific);
            assert_eq!(number(a), Some(80));
            assert_eq!(b.path_type, PathType::Exact);
            assert_eq!(number(b), Some(81));
        }
    }
}

mod problems {
    use super::*;

    #[test]
    fn a_problem_names_file_and_line() {
        let dir = Directory::new("lines");
        let good = service("a");
        let syntax = format!("{good}---\napiVersion: v1\nkind: [\n");
        let problem = dir.problem("shop.yaml", &syntax);
        assert!(problem.starts_with("shop.yaml:"), "{problem}");

        // The type of a field, in the second document.
        let types = format!(
            "{good}---\napiVersion: v1\nkind: Service\nmetadata: {{name: b}}\n\
             spec:\n  ports:\n  - port: many\n"
        );
        let problem = dir.problem("shop.yaml", &types);
        assert!(problem.starts_with("shop.yaml:11: "), "{problem}");

        let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, \
             metadata: {name: a}}\n- apiVersion: v1\n  kind: Service\n  metadata: {name: b}\n  \
             spec:\n    ports: [{port: many}]\n";
        let problem = dir.problem("shop.yaml", list);
        assert!(problem.starts_with("shop.yaml:9: "), "{problem}");

        let json = "{\"apiVersion\": \"v1\", \"kind\": \"Service\",\n\"spec\": 3}";
        let problem = dir.problem("shop.json", json);
        assert!(problem.starts_with("shop.json:2: "), "{problem}");
        assert!(!problem.contains("at line"), "{problem}");
    }

    #[test]
    fn an_object_without_type_or_name_is_a_problem() {
        let dir = Directory::new("no-name");
        assert_eq!(
            dir.problem("a.yaml", "---\n# nothing\n\nfoo: bar\n"),
            "a.yaml:4: object has no `apiVersion` or no `kind`"
        );
        let nameless = "---
# x
apiVersion: v1
kind: Service
";
        assert_eq!(
            dir.problem("a.yaml", nameless),
            "a.yaml:3: object has no `metadata.name`"
        );
        let list = format!(
            "apiVersion: v1
kind: List
items:
- {{}}
- {{{}}}
",
            "apiVersion: v1, kind: Secret"
        );
        assert_eq!(
            dir.problem("a.yaml", &list),
            "a.yaml:5: object has no `metadata.name`"
        );
        assert!(
            dir.problem("a.yaml", "just text\n")
                .starts_with("a.yaml:1: ")
        );
    }

    #[test]
    fn a_value_that_is_not_base64_is_a_problem() {
        let dir = Directory::new("base64");
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata:\n  tls.crt: '*'\n";
        let problem = dir.problem("a.yaml", secret);
        assert!(
            problem.starts_with("a.yaml:5: value is not base64"),
            "{problem}"
        );
    }

    #[test]
    fn a_file_larger_than_the_bound_is_a_problem() {
        let dir = Directory::new("large");
        let file = File::create(dir.path("a.yaml")).unwrap();
        file.set_len(FILE_BYTES_MAX as u64 + 1).unwrap();
        let problem = dir.load().problems[0].to_string();
        assert!(
            problem.ends_with("is larger than 33554432 bytes"),
            "{problem}"
        );
    }

    #[test]
    fn control_characters_of_a_file_do_not_reach_a_terminal() {
        let dir = Directory::new("control");
        let problem = dir.problem(
            "a.yaml",
            "apiVersion: v1\nkind: Service\nspec: {\"\\e[31m\": 1, \"\\e[31m\": 1}\n",
        );
        assert!(!problem.contains(char::is_control), "{problem:?}");
    }

    #[test]
    fn text_that_is_not_utf8_is_a_problem() {
        let dir = Directory::new("utf8");
        fs::write(dir.path("a.yaml"), b"a: b\nc: \xff\n").unwrap();
        let problem = dir.load().problems[0].to_string();
        assert!(problem.ends_with("a.yaml:2: is not UTF-8"), "{problem}");
    }

    #[test]
    fn an_alias_bomb_is_a_problem() {
        let dir = Directory::new("bomb");
        let mut text =
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nl0: &l0 [x, x]\n".to_owned();
        for level in 1..40 {
            let below = level - 1;
            writeln!(text, "l{level}: &l{level} [*l{below}, *l{below}]").unwrap();
        }
        dir.problem("a.yaml", &text);
    }

    #[test]
    fn a_duplicate_names_both_places_and_the_first_counts() {
        let dir = Directory::new("duplicate");
        let with_port =
            |port: u16| format!("{}spec:\n  ports: [{{port: {port}}}]\n", service("web"));
        dir.write("a.yaml", &with_port(80));
        dir.write(
            "b.yaml",
            &format!("{}---\n{}", service("other"), with_port(81)),
        );
        let loaded = dir.load();
        assert_eq!(services(&loaded), ["web", "other"]);
        assert_eq!(
            loaded.snapshot.services.iter().next().unwrap().ports[0].port,
            80
        );
        let place = dir.0.display();
        assert_eq!(
            loaded.problems[0].to_string(),
            format!(
                "{place}/b.yaml:6: Service default/web is defined already in {place}/a.yaml:1, \
                 which counts"
            ),
        );
    }

    #[test]
    fn a_broken_file_keeps_its_last_good_content() {
        let dir = Directory::new("last-good");
        dir.write("a.yaml", &service("a"));
        dir.write("b.yaml", &service("b"));
        let mut manifests = Manifests::open(&dir.0).unwrap();
        assert_eq!(services(&manifests.load()), ["a", "b"]);

        dir.write("a.yaml", "kind: [");
        dir.write("b.yaml", &service("c"));
        let loaded = manifests.load();
        assert_eq!(services(&loaded), ["a", "c"]);
        assert_eq!(loaded.problems.len(), 1);
        assert_eq!(
            manifests.load(),
            loaded,
            "the problem stays as long as the file"
        );

        fs::remove_file(dir.path("a.yaml")).unwrap();
        let loaded = manifests.load();
        assert_eq!(services(&loaded), ["c"]);
        assert_eq!(loaded.problems, []);
    }
}
