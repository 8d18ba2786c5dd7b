//! What people write, what it comes to, and that nothing of it is shown.

use super::*;

fn env(name: &str) -> Option<OsString> {
    match name {
        "SECRET" => Some("hunter2".into()),
        "EMPTY" => Some("".into()),
        _ => None,
    }
}

fn parsed(text: &str) -> Remote {
    Remote::parse(text, &env).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn an_etcd_has_members_a_key_and_a_user() {
    fn check(text: &str, endpoints: &[&str], key: &str, user: Option<(&str, Word)>, shown: &str) {
        let remote = parsed(text);
        assert_eq!(remote.to_string(), shown);
        assert!(!format!("{remote} {remote:?}").contains("hunter"), "{remote:?}");
        let Remote::Etcd { etcd, key: found } = remote else { panic!("{text}: {remote:?}") };
        let urls: Vec<_> = etcd.endpoints.iter().map(ToString::to_string).collect();
        assert_eq!((urls, &*found), (endpoints.iter().map(|&url| url.into()).collect(), key), "{text}");
        assert_eq!(etcd.user, user.map(|(user, word)| (user.into(), word)), "{text}");
    }
    check("etcd://h/k", &["http://h:2379/"], "/k", None, "etcd://h:2379/k");
    check(
        "ETCD://a:1,B:2,[::1]/redvigil/config",
        &["http://a:1/", "http://b:2/", "http://[::1]:2379/"],
        "/redvigil/config",
        None,
        "etcd://a:1,b:2,[::1]:2379/redvigil/config",
    );
    check("etcd://h//k%20%2fx?", &["http://h:2379/"], "//k /x", None, "etcd://h:2379//k /x");
    let given = Word::Given(Secret::new("hunter2"));
    check(
        "etcd://h/k?username=u%40x&password_env=SECRET&tls=true",
        &["https://h:2379/"],
        "/k",
        Some(("u@x", given)),
        "etcd://h:2379/k",
    );
}

#[test]
fn a_consul_has_a_key_and_a_token() {
    fn check(text: &str, url: &str, key: &str, auth: Auth, shown: &str) {
        let remote = parsed(text);
        assert_eq!(remote.to_string(), shown);
        let Remote::Consul { endpoint, key: found } = remote else { panic!("{text}: {remote:?}") };
        assert_eq!((endpoint.url.to_string().as_str(), &*found, endpoint.auth), (url, key, auth), "{text}");
    }
    check("consul://h/a/b", "http://h:8500/", "a/b", Auth::None, "consul://h:8500/a/b");
    check("consul://h:80/a", "http://h/", "a", Auth::None, "consul://h/a");
    let file = Auth::Bearer(Word::File("/run/t".into()));
    check("consul://h/a?token_file=/run/t&tls=false", "http://h:8500/", "a", file, "consul://h:8500/a");
    let given = Auth::Bearer(Word::Given(Secret::new("hunter2")));
    check("consul://h/a?tls=true&token_env=SECRET", "https://h:8500/", "a", given, "consul://h:8500/a");
}

#[test]
fn a_nacos_has_an_id_in_a_group_of_a_namespace() {
    fn check(text: &str, expected: (&str, &str, &str, &str, NacosApi), user: Option<&str>) {
        let remote = parsed(text);
        let Remote::Nacos { endpoint, user: found, id, group, namespace, api } = remote else {
            panic!("{text}: {remote:?}")
        };
        assert_eq!((&*endpoint.url.to_string(), &*id, &*group, &*namespace, api), expected, "{text}");
        assert_eq!(found.map(|(user, _)| user).as_deref(), user, "{text}");
    }
    let (auto, group) = (NacosApi::Auto, "DEFAULT_GROUP");
    check("nacos://h/r.yaml", ("http://h:8848/nacos", "r.yaml", group, "", auto), None);
    check(
        "nacos://h:1/r?group=G&namespace=public-1&api=v3&username=u&password_file=p",
        ("http://h:1/nacos", "r", "G", "public-1", NacosApi::V3),
        Some("u"),
    );
    check("nacos://h/r?context=/&namespace=&api=v1", ("http://h:8848/", "r", group, "", NacosApi::V1), None);
    check("nacos://h/r?context=a/b/&api=auto", ("http://h:8848/a/b", "r", group, "", auto), None);
}

#[test]
fn tls_is_as_said_behind_the_question_mark() {
    fn check(words: &str, expected: Tls) {
        let Remote::Etcd { etcd, .. } = parsed(&format!("etcd://h/k?{words}")) else { panic!("{words}") };
        assert_eq!(etcd.tls, expected, "{words}");
    }
    check("", Tls::default());
    check("tls=true", Tls::default());
    let client = Some(("c.pem".into(), "k.pem".into()));
    check(
        "ca_file=ca.pem&cert_file=c.pem&key_file=k.pem&server_name=n&skip_verify=true&tls=true",
        Tls {
            ca_file: Some("ca.pem".into()),
            client,
            server_name: Some("n".into()),
            skip_verification: true,
        },
    );
}

#[test]
fn what_cannot_be_says_what_is_expected_and_shows_no_secret() {
    fn check(text: &str, expected: &str) {
        let error = Remote::parse(text, &env).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains("hunter"), "{error}");
    }
    for text in ["", "h:2379/k", "http://h/k", "etcd:/h", "zookeeper://hunter2/k", "/etc/redvigil.yaml"] {
        check(text, "is no place of a document; expected etcd://HOST:PORT/KEY");
    }
    for text in
        ["etcd://u:hunter2@h/k", "etcd://hunter2@h/k", "nacos://u:hunter2@h/k", "etcd://a,u:hunter2@b/k"]
    {
        check(
            text,
            "holds a user or a password in front of the host; expected username=USER and password_file=",
        );
    }
    check("consul://u:hunter2@h/k", "expected token_file=FILE");
    check("consul://h/k?token=hunter2", "holds a secret (token=), which could be seen; expected token_file=");
    check("etcd://h/k?username=u&password=hunter2", "holds a secret (password=)");
    check("nacos://h/k?accessToken=hunter2", "holds a secret (accessToken=)");
    check(
        "consul://h/k?group=a",
        "has the unknown word group= behind the ?; consul:// has token_file, token_env, tls, ca_file, cert_file, \
         key_file, server_name, skip_verify",
    );
    check("etcd://h/k?hunter2", "has an unknown word behind the ?; etcd:// has username, ");
    check("etcd://h/k?Hunter2=x", "has an unknown word behind the ?");
    check("etcd://h/k?tls=true&tls=true", "says tls= twice");
    check("etcd://h/k?tls=yes", "has a tls= that is neither true nor false");
    check("etcd://h/k?ca_file=x", "says ca_file= without tls=true");
    check("etcd://h/k?tls=false&skip_verify=true", "says skip_verify= without tls=true");
    check("etcd://h/k?tls=true&cert_file=x", "needs cert_file= and key_file= together");
    check("etcd://h/k?username=u", "needs a user and a password together");
    check("etcd://h/k?password_env=SECRET", "needs a user and a password together");
    for name in ["NONE", "EMPTY", ""] {
        check(&format!("etcd://h/k?username=u&password_env={name}"), "names a variable which is not set");
    }
    check("consul://h/k?token_file=x&token_env=SECRET", "says token_file= and token_env=");
    for text in ["etcd://h", "etcd://h/", "consul://h/a/", "nacos://h?group=G", "nacos:///"] {
        check(text, if text == "nacos:///" { "names no server" } else { "names no key" });
    }
    for text in ["etcd:///k", "etcd://,/k", "etcd://a,/k", "etcd://h:0/k", "etcd://::1/k", "etcd://a b/k"] {
        check(text, "names no server: ");
    }
    for text in ["consul://a,b/k", "nacos://a,b/k"] {
        check(text, "names several hosts");
    }
    check(&format!("etcd://{}/k", ["h"; 17].join(",")), "names more than 16 hosts");
    check("etcd://h/k#hunter2", "has a fragment");
    check("etcd://h/%0a", "control characters");
    check("etcd://h/%ff", "no UTF-8");
    check(&format!("etcd://h/{}", "k".repeat(1025)), "too long");
    check("nacos://h/a/b", "the dataId is made of letters");
    check("nacos://h/a?group=%02", "group= is made of letters");
    check("nacos://h/a?namespace=a%20b", "namespace= is made of letters");
    check("nacos://h/a?api=v2", "expected auto, v1 or v3");
    check("nacos://h/a?context=/a%20b", "expected one such as /nacos");
}
