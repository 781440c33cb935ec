//! Users and hashes of their passwords, in a Secret.

use k8s_openapi::api::core::v1::Secret;

use crate::annotation::basic_auth::SecretLayout;
use crate::ir::Users;

/// The users of a Secret, and the names of those whose hashes are of an unknown kind.
///
/// # Errors
///
/// In words, for a Secret without users, or with text that is not UTF-8.
pub(super) fn read(secret: &Secret, layout: SecretLayout) -> Result<(Users, Vec<String>), String> {
    let mut users = Users::default();
    let mut unusable = Vec::new();
    let data = secret.data.iter().flatten();
    let mut add = |user: &str, hash: &str| {
        if is_known(hash) {
            users.0.entry(user.into()).or_insert_with(|| hash.into());
        } else {
            unusable.push(user.to_owned());
        }
    };
    match layout {
        SecretLayout::File => {
            let mut data = data;
            let file = data.find(|(key, _)| *key == "auth");
            let (_, file) = file.ok_or_else(|| "has no key `auth`".to_owned())?;
            for line in text(&file.0)?.lines().map(str::trim) {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let (user, rest) = line.split_once(':').unwrap_or((line, ""));
                // Text after a second colon is a comment.
                let hash = rest.split(':').next().unwrap_or_default();
                add(user, hash);
            }
        }
        SecretLayout::Map => {
            for (user, hash) in data {
                add(user, text(&hash.0)?.trim());
            }
        }
    }
    if users.0.is_empty() && unusable.is_empty() {
        return Err("has no users".to_owned());
    }
    Ok((users, unusable))
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}

/// Whether passwords can be compared with a hash.
///
/// Source: nginx, `ngx_crypt`, and glibc's `crypt(5)`; DES, which `crypt(3)` takes too, is not among
/// them.
fn is_known(hash: &str) -> bool {
    const KNOWN: [&str; 9] = [
        "$2y$", "$2b$", "$2a$", "$apr1$", "$1$", "$5$", "$6$", "{SHA}", "{SSHA}",
    ];
    KNOWN.iter().any(|prefix| hash.starts_with(prefix)) || hash.starts_with("{PLAIN}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::*;

    fn secret(entries: &[(&str, &str)]) -> Secret {
        let data: BTreeMap<_, _> = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())))
            .collect();
        Secret {
            data: Some(data),
            ..Secret::default()
        }
    }

    #[test]
    fn users_are_lines_of_a_file_or_keys_of_a_map() {
        let file = "# users\nann:$apr1$x$y:comment\n\nbob:{SHA}abc\nann:$1$other\neve:plain\n";
        let (users, unusable) = read(&secret(&[("auth", file)]), SecretLayout::File).unwrap();
        let found: Vec<_> = users
            .0
            .iter()
            .map(|(user, hash)| (&**user, &**hash))
            .collect();
        assert_eq!(found, [("ann", "$apr1$x$y"), ("bob", "{SHA}abc")]);
        assert_eq!(unusable, ["eve"]);
        let map = secret(&[("ann", "$2y$05$x"), ("bob", "{PLAIN}b\n")]);
        let (users, unusable) = read(&map, SecretLayout::Map).unwrap();
        assert_eq!((users.0.len(), unusable.len()), (2, 0));
        assert_eq!(&*users.0["bob"], "{PLAIN}b");
    }

    #[test]
    fn secret_without_users_is_invalid() {
        read(&secret(&[("other", "a:b")]), SecretLayout::File).unwrap_err();
        read(&secret(&[("auth", "# nobody\n")]), SecretLayout::File).unwrap_err();
        read(&secret(&[]), SecretLayout::Map).unwrap_err();
    }
}
