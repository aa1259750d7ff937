//! Who one is for a registry, and which registry is asked: `login`, `logout`, `search`, the flags of `pull`,
//! registries.conf; real registries with passwords and tokens, and servers that want to have what is not theirs.
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::Rbox;
use crate::support::call::Call;
use crate::support::guarded;
use crate::support::guarded::IDENTITY;
use crate::support::guarded::PASSWORD;
use crate::support::guarded::USER;
use crate::support::hostile::Image;
use crate::support::liar;
use crate::support::registry;
use crate::support::tmux::Tmux;

const PULLED: &str = "[ID]\n";
/// `ann:secret`
const BASIC: &str = "YW5uOnNlY3JldA==";

fn auth_file(rbox: &Rbox, content: &str) -> String {
    rbox.write("auth.json", content).display().to_string()
}

#[test]
fn a_password_is_tried_kept_used_and_forgotten() {
    let rbox = Rbox::new();
    let registry = guarded::htpasswd();
    let (host, image) = (&registry.host, registry.reference("busybox"));
    let file = auth_file(
        &rbox,
        r#"{"auths":{"a.org":{"auth":"eDp5"}},"HttpHeaders":{"X":"y"}}"#,
    );
    let with = |args: &[&str]| rbox.args(args).env("REGISTRY_AUTH_FILE", &file);
    with(&["pull", "-q", &image])
        .stderr(format!(
            "Error: cannot pull \"{image}:latest\": registry {host} refuses access\n\
             Hint: log in with `rbox login`, or give --creds USER:PASSWORD; the name may also be wrong\n"
        ))
        .status(125)
        .run();
    with(&["login", "-u", USER, "-p", "wrong", host])
        .stderr(format!(
            "Error: logging into \"{host}\": invalid username/password\n"
        ))
        .status(125)
        .run();
    assert!(!std::fs::read_to_string(&file).unwrap().contains(host));
    with(&["login", "--get-login", host])
        .stderr(format!("Error: not logged into {host}\n"))
        .status(125)
        .run();
    with(&["login", "-u", USER, "--password-stdin", "--verbose", host])
        .stdin(format!("{PASSWORD}\n"))
        .stdout("Used: [DIR]/work/auth.json\nLogin Succeeded!\n")
        .run();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(BASIC) && text.contains("HttpHeaders") && text.contains("a.org"));
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    with(&["login", "--get-login", host])
        .stdout(format!("{USER}\n"))
        .run();
    with(&["login", host])
        .stdout(format!(
            "Authenticating with existing credentials for {host}\n\
             Existing credentials are valid. Already logged in to {host}\n"
        ))
        .run();
    with(&["pull", "-q", &image]).stdout(PULLED).run();
    with(&["logout", host])
        .stdout(format!("Removed login credentials for {host}\n"))
        .run();
    with(&["logout", host])
        .stderr(format!("Error: not logged into {host}\n"))
        .status(125)
        .run();
    with(&["logout", "--all"])
        .stdout("Removed login credentials for all registries\n")
        .run();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("a.org") && text.contains("HttpHeaders"));
}

#[test]
fn a_password_may_be_for_a_part_of_a_registry() {
    let rbox = Rbox::new();
    let registry = guarded::htpasswd();
    let file = rbox.work("auth.json").display().to_string();
    let part = registry.reference("zstd");
    rbox.args([
        "login",
        "-u",
        USER,
        "-p",
        PASSWORD,
        "--authfile",
        &file,
        &part,
    ])
    .stdout("Login Succeeded!\n")
    .run();
    rbox.args(["pull", "-q", "--authfile", &file])
        .arg(registry.reference("zstd/busybox"))
        .stdout(PULLED)
        .run();
    rbox.args(["pull", "-q", "--authfile", &file])
        .arg(registry.reference("busybox"))
        .stderr_has("refuses access")
        .status(125)
        .run();
    rbox.args(["pull", "-q", "--authfile", "no/such/file"])
        .arg(registry.reference("busybox"))
        .stderr_has("there is no auth file no/such/file")
        .status(125)
        .run();
    let creds = format!("{USER}:{PASSWORD}");
    rbox.args(["run", "--rm", "-q", "--creds", &creds])
        .arg(registry.reference("busybox"))
        .args(["echo", "in"])
        .stdout("in\n")
        .run();
}

#[test]
fn docker_reads_what_is_written_for_it() {
    let rbox = Rbox::new();
    let host = &guarded::htpasswd().host;
    let file = auth_file(&rbox, r#"{"currentContext":"default"}"#);
    rbox.args([
        "login",
        "-u",
        USER,
        "-p",
        PASSWORD,
        "--compat-auth-file",
        &file,
        host,
    ])
    .stdout("Login Succeeded!\n")
    .run();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("currentContext") && text.contains(BASIC),
        "{text}"
    );
    // Another tool is let in by it.
    rbox.program("skopeo")
        .args([
            "inspect",
            "--tls-verify=false",
            "--authfile",
            &file,
            "--format",
            "{{.Os}}",
        ])
        .arg(format!("docker://{host}/busybox"))
        .stdout("linux\n")
        .run();
    rbox.args(["logout", "--compat-auth-file", &file, host])
        .stdout(format!("Removed login credentials for {host}\n"))
        .run();
    rbox.args(["login", "--secret", "x", host])
        .stderr_has("rbox keeps no secrets")
        .status(125)
        .run();
}

#[test]
fn tokens_are_had_for_a_password_and_for_an_identity() {
    let rbox = Rbox::new();
    let guarded = guarded::tokens();
    let registry = &guarded.registry;
    let file = rbox.work("auth.json").display().to_string();
    let login = |password: &str| {
        rbox.args(["login", "-u", USER, "-p", password, "--authfile", &file])
            .arg(&registry.host)
    };
    login("wrong")
        .stderr_has("invalid username/password")
        .status(125)
        .run();
    assert!(!std::path::Path::new(&file).exists());
    login(PASSWORD).stdout("Login Succeeded!\n").run();
    // As with Docker the server's token is kept, and the password is not.
    let kept: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let entry = json!({"auth": STANDARD.encode(format!("{USER}:")), "identitytoken": IDENTITY});
    assert_eq!(kept, json!({"auths": {&registry.host: entry}}));
    rbox.args(["login", "--get-login", "--authfile", &file])
        .arg(&registry.host)
        .stdout(format!("{USER}\n"))
        .run();
    let known = &registry.host;
    rbox.args(["login", "--authfile", &file, known])
        .stdout(format!(
            "Authenticating with existing credentials for {known}\n\
             Existing credentials are valid. Already logged in to {known}\n"
        ))
        .run();
    rbox.args(["pull", "-q", "--authfile", &file])
        .arg(registry.reference("busybox"))
        .stdout(PULLED)
        .run();
    let creds = format!("{USER}:{PASSWORD}");
    rbox.args(["pull", "-q", "--creds", &creds])
        .arg(registry.reference("busybox:user"))
        .stdout(PULLED)
        .run();
    rbox.args(["pull", "-q"])
        .arg(registry.reference("busybox"))
        .stderr_has("refuses access")
        .status(125)
        .run();
    let identity = format!(
        r#"{{"auths":{{"{}":{{"auth":"YW5uOg==","identitytoken":"{IDENTITY}"}}}}}}"#,
        registry.host
    );
    let identity = auth_file(&rbox, &identity);
    rbox.args(["pull", "-q", "--authfile", &identity])
        .arg(registry.reference("testinit"))
        .stdout(PULLED)
        .run();
    let seen = guarded.seen.lock().unwrap().join("\n");
    assert!(
        seen.contains(
            "password GET /token?service=tests&account=ann&client_id=rbox&offline_token=true HTTP"
        ),
        "{seen}"
    );
    let of_pull = "password GET /token?service=tests&scope=repository:busybox:pull HTTP";
    assert!(seen.contains(of_pull), "{seen}");
    assert!(seen.contains("identity POST /token HTTP"), "{seen}");
}

#[test]
fn certificates_are_verified_by_every_command() {
    let rbox = Rbox::new();
    let registry = guarded::htpasswd_tls();
    let (host, image) = (&registry.host, registry.reference("busybox"));
    let file = rbox.work("auth.json").display().to_string();
    let creds = format!("{USER}:{PASSWORD}");
    let commands: [&[&str]; 8] = [
        &["pull", "-q", &image],
        &["pull", "-q", "--all-tags", &image],
        &["run", "--rm", "-q", &image],
        &["create", "-q", &image],
        &["pull", "-q", "--creds", &creds, &image],
        &[
            "login",
            "-u",
            USER,
            "-p",
            PASSWORD,
            "--authfile",
            &file,
            host,
        ],
        &["search", &image],
        &["search", "--list-tags", &image],
    ];
    for command in commands {
        rbox.args(command)
            .stderr_has("Error: ")
            .stderr_has("certificate")
            .status(125)
            .run();
    }
    assert!(!std::path::Path::new(&file).exists());
    let certs = rbox.work("certs");
    std::fs::create_dir(&certs).unwrap();
    std::fs::copy(registry::authority(), certs.join("ca.crt")).unwrap();
    rbox.own(&certs);
    rbox.own(&certs.join("ca.crt"));
    let trusted = format!("--cert-dir={}", certs.display());
    rbox.args([
        "login",
        "-u",
        USER,
        "-p",
        PASSWORD,
        "--authfile",
        &file,
        &trusted,
        host,
    ])
    .stdout("Login Succeeded!\n")
    .run();
    rbox.args(["pull", "-q", "--authfile", &file, &trusted, &image])
        .stdout(PULLED)
        .run();
    rbox.args([
        "login",
        "-u",
        USER,
        "-p",
        "x",
        "--authfile",
        &file,
        "--tls-verify=false",
        host,
    ])
    .stderr_has("invalid username/password")
    .status(125)
    .run();
}

#[test]
fn a_client_certificate_is_shown() {
    let rbox = Rbox::new();
    let registry = guarded::client_tls();
    let image = registry.reference("busybox");
    rbox.args(["pull", "-q", "--retry=0", "--tls-verify=false", &image])
        .stderr_has("received fatal alert")
        .status(125)
        .run();
    let config = rbox.work("config");
    let certs = config.join("containers/certs.d").join(&registry.host);
    std::fs::create_dir_all(&certs).unwrap();
    guarded::client_certificate(&certs, false);
    rbox.args(["pull", "-q", &image])
        .env("XDG_CONFIG_HOME", &config)
        .stderr_has("client.cert: invalid peer certificate: ")
        .status(125)
        .run();
    guarded::client_certificate(&certs, true);
    rbox.args(["pull", "-q", &image])
        .env("XDG_CONFIG_HOME", &config)
        .stdout(PULLED)
        .run();
    std::fs::remove_file(certs.join("client.key")).unwrap();
    rbox.args(["pull", "-q", &image])
        .env("XDG_CONFIG_HOME", &config)
        .stderr_has("client.key: No such file or directory")
        .status(125)
        .run();
}

#[test]
fn a_helper_keeps_passwords_and_a_broken_one_ends_the_command() {
    let rbox = Rbox::new();
    let registry = guarded::htpasswd();
    let (host, image) = (&registry.host, registry.reference("busybox"));
    let kept = rbox.work("kept");
    let script = format!(
        "#!/bin/sh\nk={}\ntest -z \"$LD_PRELOAD\" || exit 9\ncase $1 in\nstore) cat >$k;;\n\
         get) read -r s; test -e $k && grep -q \"$s\" $k && cat $k || {{ echo credentials not found in native keychain; exit 1; }};;\n\
         erase) rm $k;;\nesac\n",
        kept.display()
    );
    let helper = rbox.write("docker-credential-test", script);
    std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", rbox.work("").display());
    let file = auth_file(&rbox, r#"{"credsStore":"test"}"#);
    let with = |args: &[&str]| {
        rbox.args(args)
            .env("PATH", &path)
            .env("REGISTRY_AUTH_FILE", &file)
            .env("LD_PRELOAD", "")
    };
    with(&["login", "-u", USER, "-p", PASSWORD, "-v", host])
        .stdout("Used: credential helper test\nLogin Succeeded!\n")
        .run();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(
        !text.contains(BASIC) && text.contains("credsStore"),
        "{text}"
    );
    assert!(std::fs::read_to_string(&kept).unwrap().contains(PASSWORD));
    with(&["login", "--get-login", host]).stdout("ann\n").run();
    with(&["pull", "-q", &image]).stdout(PULLED).run();
    with(&["logout", host])
        .stdout(format!("Removed login credentials for {host}\n"))
        .run();
    assert!(!kept.exists());
    // Who fails gives nobody's credentials, and nothing is asked without them either.
    let (other, seen) = liar::start_seen(liar::truth(&Image::busybox()));
    for broken in ["broken", "../test"] {
        let text = format!(
            r#"{{"credHelpers":{{"{other}":"{broken}"}},"auths":{{"{other}":{{"auth":"{BASIC}"}}}}}}"#
        );
        let file = auth_file(&rbox, &text);
        rbox.args(["pull", "-q", "--authfile", &file, &format!("{other}/odd")])
            .stderr_has(format!(
                "cannot use credential helper docker-credential-{broken}"
            ))
            .status(125)
            .run();
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn a_person_is_asked_at_a_terminal() {
    let rbox = Rbox::new();
    let host = &guarded::htpasswd().host;
    let file = rbox.work("auth.json").display().to_string();
    let tmux = Tmux::start(&rbox);
    tmux.line(&format!("rbox login --authfile {file} {host}"));
    tmux.wait("Username:");
    tmux.line(USER);
    tmux.wait("Password:");
    tmux.line(PASSWORD);
    let screen = tmux.wait("Login Succeeded!");
    assert!(!screen.contains(PASSWORD), "{screen}");
    tmux.line("clear; stty -a | grep -o ' echo ' | tr -d ' '");
    tmux.wait_line("echo");
    tmux.line(&format!("rbox login -u bob --authfile {file} {host}"));
    tmux.wait("Password:");
    tmux.keys(&["C-c"]);
    tmux.wait("Error: interrupted");
    drop(tmux);
    rbox.args(["login", "--authfile", &file, "-u", "bob", host])
        .stderr_has("standard input is no terminal")
        .status(125)
        .run();
}

/// A registries.conf of this test.
fn conf(rbox: &Rbox, content: &str) -> String {
    rbox.write("registries.conf", content).display().to_string()
}

#[test]
fn registries_conf_names_mirrors_aliases_and_what_is_blocked() {
    let rbox = Rbox::new();
    let host = &registry::http().host;
    let conf = conf(
        &rbox,
        &format!(
            "unqualified-search-registries = [\"{host}\"]\n\
             [aliases]\n\"box\" = \"{host}/busybox\"\n\
             [[registry]]\nprefix = \"blocked.example\"\nblocked = true\n\
             [[registry]]\nlocation = \"origin.example/team\"\n\
             [[registry.mirror]]\nlocation = \"127.0.0.1:1/none\"\n\
             [[registry.mirror]]\nlocation = \"{host}\"\n"
        ),
    );
    let with = |args: &[&str]| rbox.args(args).env("CONTAINERS_REGISTRIES_CONF", &conf);
    with(&[
        "pull",
        "-q",
        "--retry=0",
        "origin.example/team/busybox:user",
    ])
    .stdout(PULLED)
    .run();
    with(&[
        "run",
        "--rm",
        "--pull=never",
        "origin.example/team/busybox:user",
        "id",
        "-un",
    ])
    .stdout("alice\n")
    .run();
    with(&["pull", "-q", "blocked.example/x"])
        .stderr("Error: cannot pull \"blocked.example/x:latest\": registry blocked.example is blocked by registries.conf\n")
        .status(125)
        .run();
    with(&[
        "login",
        "-u",
        "a",
        "-p",
        "b",
        "--authfile",
        "x",
        "blocked.example",
    ])
    .stderr_has("is blocked by registries.conf")
    .status(125)
    .run();
    with(&["pull", "-q", "testinit"]).stdout(PULLED).run();
    with(&["run", "-q", "--rm", "box", "echo", "alias"])
        .stdout("alias\n")
        .run();
    // It is there now, and nobody is asked.
    with(&["run", "--rm", "--pull=never", "box", "echo", "alias"])
        .stdout("alias\n")
        .run();
    with(&["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .stdout_has(format!("{host}/busybox:latest\n"))
        .stdout_has(format!("{host}/testinit:latest\n"))
        .stdout_has("origin.example/team/busybox:user\n")
        .run();
    with(&["info", "--format", "{{.Registries.search}}"])
        .stdout_has(host)
        .status_any()
        .stderr_any()
        .run();
}

#[test]
fn an_ambiguous_short_name_is_an_error_or_a_question() {
    let rbox = Rbox::new();
    let host = &registry::http().host;
    let text = |mode: &str| {
        format!(
            "unqualified-search-registries = [\"127.0.0.1:1\", \"{host}\"]\nshort-name-mode = \"{mode}\"\n"
        )
    };
    let file = conf(&rbox, &text("enforcing"));
    rbox.args(["pull", "-q", "--registries-conf", &file, "testinit"])
        .stderr(format!(
            "Error: short name \"testinit\" may mean 127.0.0.1:1/testinit:latest or {host}/testinit:latest\n\
             Hint: give the full name, or make an alias in registries.conf\n"
        ))
        .status(125)
        .run();
    let tmux = Tmux::start(&rbox);
    tmux.line(&format!("rbox pull -q --registries-conf {file} testinit"));
    tmux.wait("Number from 1 to 2:");
    tmux.line("2");
    tmux.wait_until("an id", |screen| {
        screen.lines().any(|line| line.len() == 64)
    });
    drop(tmux);
    let recorded = rbox
        .dir()
        .join("home/.cache/containers/short-name-aliases.conf");
    let text_of = std::fs::read_to_string(&recorded).unwrap();
    assert_eq!(
        text_of,
        format!("[aliases]\n  \"testinit\" = \"{host}/testinit\"\n")
    );
    // The choice holds from now on.
    rbox.args(["pull", "-q", "--registries-conf", &file, "testinit"])
        .stdout(PULLED)
        .run();
    std::fs::remove_dir_all(rbox.dir().join("home/.cache")).unwrap();
    let file = conf(&rbox, &text("permissive"));
    rbox.args([
        "pull",
        "-q",
        "--retry=0",
        "--registries-conf",
        &file,
        "testinit",
    ])
    .stdout(PULLED)
    .run();
    let file = conf(&rbox, "[[registry]]\nlocation = \"https://a.org\"\n");
    rbox.args(["pull", "-q", "--registries-conf", &file, "a"])
        .stderr("Error: cannot read [DIR]/work/registries.conf: \"https://a.org\" has a scheme, and is a host with or without a path\n")
        .status(125)
        .run();
}

#[test]
fn policies_platforms_and_all_tags() {
    let rbox = Rbox::new();
    let registry = registry::http();
    let image = registry.reference("busybox");
    rbox.args(["pull", "--policy=never", &image])
        .stderr(format!(
            "Error: image \"{image}\" is not in the store, and the policy forbids to pull it\n\
             Hint: get it with `rbox pull {image}`\n"
        ))
        .status(125)
        .run();
    rbox.args(["pull", &image, &registry.reference("testinit")])
        .stdout("[ID]\n[ID]\n")
        .stderr_has(format!("Trying to pull {image}:latest...\n"))
        .stderr_has(" done\n")
        .run();
    for policy in ["missing", "never", "newer"] {
        rbox.args(["pull", "--policy", policy, &image])
            .stdout(PULLED)
            .run();
    }
    rbox.args(["pull", "-q", "--arch=s390x", &image])
        .stderr(format!(
            "Error: cannot pull \"{image}:latest\": it is for linux/amd64, and not for linux/s390x\n\
             Hint: leave out `--platform`, `--os`, `--arch` and `--variant` to have it as it is\n"
        ))
        .status(125)
        .run();
    rbox.args(["pull", "--platform=linux/amd64", "--os=linux", &image])
        .stderr("Error: --platform cannot be combined with --os, --arch or --variant\n")
        .status(125)
        .run();
    let before = rbox
        .args(["images", "-q"])
        .stdout_any()
        .run()
        .stdout
        .lines()
        .count();
    let pulled = rbox
        .args(["pull", "-q", "--all-tags", &image])
        .stdout_any()
        .run()
        .stdout;
    assert!(pulled.lines().count() > 3, "{pulled}");
    let after = rbox
        .args(["images", "-q"])
        .stdout_any()
        .run()
        .stdout
        .lines()
        .count();
    assert!(after > before, "{before} {after}");
    rbox.args(["pull", "-q", "--all-tags", &format!("{image}:user")])
        .stderr_has("wants all tags")
        .status(125)
        .run();
    rbox.args(["pull", "-q", "--disable-content-trust=false", &image])
        .stderr_has("no signatures of Notary")
        .status(125)
        .run();
    rbox.args(["pull", "-q", "--decryption-key=x", &image])
        .stderr_has("rbox has no encrypted images")
        .status(125)
        .run();
}

#[test]
fn a_catalog_and_dockers_search_are_shown() {
    let rbox = Rbox::new();
    let host = &registry::http().host;
    rbox.args(["search", "--format", "{{.Name}}", &format!("{host}/busy")])
        .stdout(format!("{host}/busybox\n{host}/zstd/busybox\n"))
        .run();
    rbox.args([
        "search",
        "--limit=1",
        "--format",
        "{{.Name}}",
        &format!("{host}/busybox"),
    ])
    .stdout(format!("{host}/busybox\n"))
    .run();
    rbox.args(["search", "--list-tags", "--format", "{{.Tag}}"])
        .arg(format!("{host}/zstd/busybox"))
        .stdout("latest\n")
        .run();
    let mut answers = liar::truth(&Image::busybox());
    let long = "a very long description of an image, which is cut somewhere";
    let results = format!(
        r#"{{"results":[{{"name":"ann/web","description":"{long}","star_count":7,"is_official":false}},
            {{"name":"web","description":"two\nlines \u001b[31m","star_count":9,"is_official":true}}]}}"#
    );
    let answer = liar::answer("200 OK", "application/json", results.as_bytes());
    answers.insert("/v1/search?q=web&n=25".into(), answer);
    let liar = liar::start(answers);
    let term = format!("{liar}/web");
    let found = rbox
        .args(["search", "--compatible", &term])
        .stdout_any()
        .run()
        .stdout;
    let width = liar.len() + "/ann/web  ".len();
    assert_eq!(
        found,
        format!(
            "{:width$}{:49}{:12}{:12}AUTOMATED\n\
             {:width$}{:49}{:12}{:12}\n\
             {:width$}{:49}{:12}{:12}\n",
            "NAME",
            "DESCRIPTION",
            "STARS",
            "OFFICIAL",
            format!("{liar}/ann/web"),
            format!("{}...", &long[..44]),
            "7",
            "",
            format!("{liar}/web"),
            "two lines \\x1b[31m",
            "9",
            "[OK]",
        )
    );
    rbox.args([
        "search",
        "-f",
        "is-official",
        "-f",
        "stars=8",
        "--format={{.Name}} {{.Stars}}",
        &term,
    ])
    .stdout(format!("{liar}/web 9\n"))
    .run();
    rbox.args(["search", "-f", "odd=1", "x"])
        .stderr_has("expected stars=NUMBER, is-official or is-automated[=BOOL]")
        .status(125)
        .run();
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 307 Go\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

/// CVE-2020-15157: the same host with another port is another server.
/// A pull of `odd` with a password.
fn with_password<'a>(rbox: &'a Rbox, host: &str) -> Call<'a> {
    let image = format!("{host}/odd");
    rbox.args(["pull", "-q", "--creds", "ann:secret", &image])
}

/// A server was asked, and never told who asks.
#[track_caller]
fn asked_without_password(seen: &liar::Seen, request: &str) {
    let seen = seen.lock().unwrap().join("\n");
    assert!(seen.contains(request), "{seen}");
    assert!(!seen.to_lowercase().contains("authorization"), "{seen}");
}

#[test]
fn a_password_does_not_follow_a_redirection() {
    let rbox = Rbox::new();
    let image = Image::busybox();
    let challenge = b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
        Content-Length: 0\r\nConnection: close\r\n\r\n";
    let (elsewhere, seen) = liar::start_seen(liar::truth(&image));
    let mut greedy = liar::truth(&image);
    greedy.insert(liar::LATEST.into(), challenge.to_vec());
    let (greedy, seen_greedy) = liar::start_seen(greedy);
    for (place, seen, works) in [(&elsewhere, &seen, true), (&greedy, &seen_greedy, false)] {
        let mut answers = liar::truth(&image);
        for (path, answer) in &mut answers {
            if path != "/v2/" {
                *answer = redirect(&format!("http://{place}{path}"));
            }
        }
        // It wants to know who one is, and then points elsewhere.
        let pointed = answers.insert(liar::LATEST.into(), challenge.to_vec());
        answers.insert(format!("{}{}", liar::KNOWN, liar::LATEST), pointed.unwrap());
        let (host, asked) = liar::start_seen(answers);
        let call = with_password(&rbox, &host);
        if works {
            call.stdout(PULLED).run();
        } else {
            call.stderr_has("points to 127.0.0.1").status(125).run();
        }
        assert!(asked.lock().unwrap().join("\n").contains(BASIC));
        asked_without_password(seen, "GET ");
    }
}

#[test]
fn a_password_is_not_for_mirrors() {
    let rbox = Rbox::new();
    let host = &guarded::htpasswd().host;
    let challenge = b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
        Content-Length: 0\r\nConnection: close\r\n\r\n";
    let mut answers = liar::truth(&Image::busybox());
    answers.insert("/v2/busybox/manifests/latest".into(), challenge.to_vec());
    let (mirror, seen) = liar::start_seen(answers);
    let conf = conf(
        &rbox,
        &format!(
            "[[registry]]\nprefix = \"origin.example/team\"\nlocation = \"{host}\"\n\
             [[registry.mirror]]\nlocation = \"{mirror}\"\n"
        ),
    );
    let creds = format!("{USER}:{PASSWORD}");
    rbox.args(["pull", "-q", "--registries-conf", &conf, "--creds", &creds])
        .arg("origin.example/team/busybox")
        .stdout(PULLED)
        .run();
    asked_without_password(&seen, "GET /v2/busybox/manifests/latest");
}

#[test]
fn a_password_is_not_for_the_sources_of_a_list() {
    let rbox = Rbox::new();
    let image = Image::busybox();
    let challenge = b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
        Content-Length: 0\r\nConnection: close\r\n\r\n";
    let mut answers = liar::truth(&image);
    answers.insert(liar::blob(&image.layers[0]), challenge.to_vec());
    let (source, seen) = liar::start_seen(answers);
    rbox.args(["manifest", "create", "list"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["manifest", "add", "--tls-verify=false", "list"])
        .arg(format!("docker://{source}/odd"))
        .stdout("[ID]\n")
        .run();
    let data = rbox.work("target");
    std::fs::create_dir(&data).unwrap();
    let target = registry::start(&data, false, "").host;
    rbox.args(["manifest", "push", "-q", "--tls-verify=false", "list"])
        .args(["--creds", &format!("{USER}:{PASSWORD}")])
        .arg(format!("docker://{target}/new"))
        .stderr_has(format!("registry {source} refuses access").as_str())
        .status(125)
        .run();
    asked_without_password(&seen, "/blobs/sha256:");
    rbox.args(["manifest", "rm", "list"]).stdout_any().run();
    rbox.args(["image", "prune", "-f"]).stdout_any().run();
}

/// The realm of a registry that is reached by http may be http; a password goes there once, and to
/// nobody to whom that server points.
#[test]
fn a_token_server_cannot_pass_a_password_on() {
    let rbox = Rbox::new();
    let (thief, stolen) = liar::start_seen(liar::Answers::new());
    let mut answers = liar::Answers::new();
    answers.insert(
        "/t?scope=repository:odd:pull".into(),
        redirect(&format!("http://{thief}/t")),
    );
    let (tokens, asked) = liar::start_seen(answers);
    let mut answers = liar::truth(&Image::busybox());
    let challenge = format!(
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm=\"http://{tokens}/t\"\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    answers.insert(liar::LATEST.into(), challenge.into_bytes());
    let host = liar::start(answers);
    with_password(&rbox, &host)
        .stderr_has("the token server answers with status 404")
        .status(125)
        .run();
    assert!(asked.lock().unwrap().join("\n").contains(BASIC));
    asked_without_password(&stolen, "GET /t");
}

#[test]
fn what_is_too_large_is_not_read() {
    let rbox = Rbox::new();
    let large = |count: usize| vec![b' '; count];
    let json = |bytes: &[u8]| liar::answer("200 OK", "application/json", bytes);
    let header = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n", "a".repeat(100_000));
    let mut many = b"HTTP/1.1 200 OK\r\n".to_vec();
    for number in 0..5000 {
        many.extend(format!("X-{number}: a\r\n").into_bytes());
    }
    for (what, path, bytes, word) in [
        (
            "manifest",
            liar::LATEST,
            json(&large(5 << 20)),
            "larger than 4194304 bytes",
        ),
        ("header", liar::LATEST, header.into_bytes(), "odd"),
        ("headers", liar::LATEST, many, "odd"),
    ] {
        let mut answers = liar::truth(&Image::busybox());
        answers.insert(path.into(), bytes);
        let host = liar::start(answers);
        let out = rbox
            .args(["pull", "-q", "--retry=0", &format!("{host}/odd")])
            .status(125)
            .stderr_any()
            .run()
            .stderr;
        assert!(out.contains(word) && out.len() < 500, "{what}: {out}");
    }
    let mut answers = liar::Answers::new();
    answers.insert("/t?scope=repository:odd:pull".into(), json(&large(2 << 20)));
    let tokens = liar::start(answers);
    let mut answers = liar::truth(&Image::busybox());
    let challenge = format!(
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm=\"http://{tokens}/t\"\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    answers.insert(liar::LATEST.into(), challenge.into_bytes());
    let host = liar::start(answers);
    rbox.args(["pull", "-q", &format!("{host}/odd")])
        .stderr_has("the token is larger than 1048576 bytes")
        .status(125)
        .run();
}

#[test]
fn a_proxy_is_asked_for_what_is_elsewhere() {
    let rbox = Rbox::new();
    let mut answers = liar::Answers::new();
    let no = liar::answer("403 Forbidden", "text/plain", b"no");
    answers.insert("registry.example:443".into(), no);
    let (proxy, seen) = liar::start_seen(answers);
    rbox.args(["pull", "-q", "--retry=0", "registry.example/x"])
        .env("https_proxy", format!("http://{proxy}"))
        .stderr_has("cannot reach registry registry.example")
        .status(125)
        .run();
    let asked = seen.lock().unwrap().join("\n");
    assert!(
        asked.starts_with("CONNECT registry.example:443 HTTP/1.1"),
        "{asked}"
    );
    // This machine is reached without it.
    rbox.args(["pull", "-q", &registry::http().reference("busybox")])
        .env("HTTP_PROXY", format!("http://{proxy}"))
        .env("HTTPS_PROXY", format!("http://{proxy}"))
        .stdout(PULLED)
        .run();
}
