//! What templates give, mostly as docker and podman give it for the same values.

use serde_json::Value;
use serde_json::json;

use super::Template;
use crate::error;

fn container() -> Value {
    json!({
        "ID": "3f2a91c0d7be",
        "Name": "web",
        "Names": ["web", "www"],
        "Size": 7_812_345,
        "Share": 0.5,
        "Created": null,
        "Running": true,
        "State": {"Status": "running", "ExitCode": 0, "Health": null},
        "Labels": {"b": "2", "a": "1", "com.example.x": "y"},
        "Mounts": [{"Destination": "/a", "RW": true}, {"Destination": "/b", "RW": false}],
        "NetworkSettings": {"Networks": {"lan": {"IPAddress": "10.0.0.2"}}},
        "host": {"cgroupManager": "cgroupfs"},
        "Empty": "",
        "None": [],
    })
}

fn run(template: &str) -> String {
    let parsed = Template::parse(template).unwrap_or_else(|err| panic!("{template}: {err}"));
    parsed
        .execute(&container())
        .unwrap_or_else(|err| panic!("{template}: {err}"))
}

fn fault(template: &str) -> anyhow::Error {
    match Template::parse(template) {
        Err(err) => err,
        Ok(parsed) => match parsed.execute(&container()) {
            Err(err) => err,
            Ok(text) => panic!("{template} gave {text:?}"),
        },
    }
}

fn check(table: &[(&str, &str)]) {
    for (template, text) in table {
        assert_eq!(run(template), *text, "{template}");
    }
}

#[test]
fn fields_and_values() {
    check(&[
        ("", ""),
        ("plain }} text", "plain }} text"),
        ("{{.ID}}", "3f2a91c0d7be"),
        ("{{ .ID }}\\t{{.Name}}\\n", "3f2a91c0d7be\tweb\n"),
        ("{{.State.Status}}", "running"),
        ("{{$.State.ExitCode}}", "0"),
        ("{{.Running}} {{.Size}} {{.Share}}", "true 7812345 0.5"),
        ("{{.Created}}", "<no value>"),
        ("{{.Names}}", "[web www]"),
        ("{{.Labels}}", "map[a:1 b:2 com.example.x:y]"),
        ("{{.State}}", "{running 0 <nil>}"),
        ("{{.Labels.a}}{{.Labels.zzz}}", "1<no value>"),
        ("{{index .Labels \"com.example.x\"}}", "y"),
        ("{{index .Labels \"zzz\"}}", "<no value>"),
        (
            "{{.Label \"com.example.x\"}}-{{$.Label \"a\"}}-{{.Label \"zzz\"}}-",
            "y-1--",
        ),
        (
            "{{index .Names 1}} {{(index .Mounts 0).Destination}}",
            "www /a",
        ),
        ("{{.Host.CgroupManager}}", "cgroupfs"),
        ("{{.NetworkSettings.Networks.lan.IPAddress}}", "10.0.0.2"),
        ("{{(.State).Status}}", "running"),
        (
            "{{json .State}}",
            r#"{"Status":"running","ExitCode":0,"Health":null}"#,
        ),
        (
            "{{json .Names}}{{json .ID}}",
            r#"["web","www"]"3f2a91c0d7be""#,
        ),
    ]);
}

#[test]
fn literals() {
    check(&[
        (r#"{{"a\t\"b\" \u00e9 \x41"}}"#, "a\t\"b\" é A"),
        ("{{`raw\\n`}}", "raw\\n"),
        (
            "{{1}} {{-3}} {{0x1F}} {{1_000}} {{1.0}} {{1.5}} {{'a'}} {{'\\n'}}",
            "1 -3 31 1000 1 1.5 97 10",
        ),
        ("{{true}} {{false}} {{print nil}}", "true false <nil>"),
        (
            "{{1e6}} {{1234567.5}} {{100000.5}} {{0.00001}}",
            "1e+06 1.2345675e+06 100000.5 1e-05",
        ),
    ]);
}

#[test]
fn white_space_is_trimmed_where_asked() {
    check(&[
        ("a  {{- .Name -}}  b", "awebb"),
        ("a {{- /* gone */ -}} b{{/* x */}}c", "abc"),
        ("{{- .Name}} ", "web "),
        ("a {{-3}} b", "a -3 b"),
        ("a \\n {{- .Name}}", "aweb"),
    ]);
}

#[test]
fn conditions() {
    check(&[
        ("{{if .Running}}y{{else}}n{{end}}", "y"),
        ("{{if .Empty}}y{{else}}n{{end}}", "n"),
        ("{{if .None}}y{{else if .Running}}r{{else}}n{{end}}", "r"),
        (
            "{{if eq .Name \"db\"}}1{{else if eq .Name \"web\"}}2{{end}}",
            "2",
        ),
        ("{{if .State.ExitCode}}y{{end}}", ""),
        ("{{with .State}}{{.Status}}{{end}}", "running"),
        ("{{with .Empty}}x{{else}}none{{end}}", "none"),
        ("{{with .Empty}}x{{else with .Name}}{{.}}{{end}}", "web"),
        ("{{with $x := .Name}}{{$x}}{{.}}{{end}}", "webweb"),
        ("{{if and .Running (gt .Size 10)}}big{{end}}", "big"),
        ("{{if not .Empty}}e{{end}}", "e"),
        (
            "{{or .Empty .Name}} {{and .Name .Empty}}|{{or \"\" 0}}",
            "web |0",
        ),
        ("{{or true .State.Status.Nope}}", "true"),
    ]);
}

#[test]
fn ranges() {
    check(&[
        ("{{range .Names}}<{{.}}>{{end}}", "<web><www>"),
        (
            "{{range $i, $n := .Names}}{{$i}}={{$n}} {{end}}",
            "0=web 1=www ",
        ),
        (
            "{{range $k, $v := .Labels}}{{$k}}={{$v}},{{end}}",
            "a=1,b=2,com.example.x=y,",
        ),
        ("{{range $n := .Names}}{{$n}}{{end}}", "webwww"),
        ("{{range .None}}x{{else}}none{{end}}", "none"),
        ("{{range .Created}}x{{else}}none{{end}}", "none"),
        (
            "{{range .Mounts}}{{.Destination}}{{if .RW}}:rw{{end}} {{$.Name}};{{end}}",
            "/a:rw web;/b web;",
        ),
        (
            "{{range $i, $n := .Names}}{{if $i}},{{end}}{{$n}}{{end}}",
            "web,www",
        ),
        (
            "{{range .Names}}{{break}}{{end}}{{range .Names}}{{if eq . \"web\"}}{{continue}}{{end}}{{.}}{{end}}",
            "www",
        ),
        (
            "{{$last := \"\"}}{{range .Names}}{{$last = .}}{{end}}{{$last}}",
            "www",
        ),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        (
            "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{$v.IPAddress}}{{end}}",
            "lan 10.0.0.2",
        ),
    ]);
}

#[test]
fn functions() {
    check(&[
        ("{{join .Names \",\"}}", "web,www"),
        (
            "{{lower \"AB\"}}{{upper .Name}}{{title \"foo bar-baz\"}}",
            "abWEBFoo Bar-Baz",
        ),
        ("{{index (split \"a:b:c\" \":\") 1}}", "b"),
        (
            "{{truncate .ID 4}}|{{pad .Name 1 2}}|{{pad \"\" 1 2}}",
            "3f2a| web  |",
        ),
        (
            "{{len .Names}} {{len .Name}} {{len .Labels}} {{len .Created}}",
            "2 3 3 0",
        ),
        ("{{slice .ID 2 5}} {{slice .Names 1}}", "2a9 [www]"),
        (
            "{{print 1 2 \"a\" \"b\" 3 4}}|{{println 1 \"a\"}}",
            "1 2ab3 4|1 a\n",
        ),
        (
            "{{eq 1 2 1}} {{ne \"a\" \"b\"}} {{lt 1 2}} {{le 2 2}} {{gt 1.5 1}} {{ge \"a\" \"b\"}}",
            "true true true true true false",
        ),
        ("{{eq .Created nil}} {{eq .Size 7812345.0}}", "true true"),
        ("{{.Name | upper | printf \"%s-%s\" \"x\"}}", "x-WEB"),
        ("{{(len .Names) | printf \"%d\"}}", "2"),
    ]);
}

#[test]
fn printf_is_gos() {
    check(&[
        (
            "{{printf \"%s|%-6s|%6s|%.2s\" .Name .Name .Name .Name}}",
            "web|web   |   web|we",
        ),
        (
            "{{printf \"%d %5d %-5d| %05d %+d\" 42 42 42 -42 42}}",
            "42    42 42   | -0042 +42",
        ),
        (
            "{{printf \"%5.2f %e %g %.3g\" 3.14159 1234.5 100000000.0 1234567.5}}",
            " 3.14 1.234500e+03 1e+08 1.23e+06",
        ),
        (
            "{{printf \"%q %q %q\" \"a\\tb\" .Names 65}}",
            "\"a\\tb\" [\"web\" \"www\"] 'A'",
        ),
        (
            "{{printf \"%v %v %v\" .Names .Labels true}}",
            "[web www] map[a:1 b:2 com.example.x:y] true",
        ),
        (
            "{{printf \"%x %X %o %b %c %U %t %x %%\" 255 255 8 5 65 65 true \"hi\"}}",
            "ff FF 10 101 A U+0041 true 6869 %",
        ),
        ("{{printf \"%d %s\" \"a\" 3}}", "%!d(string=a) %!s(int=3)"),
        (
            "{{printf \"%s\"}} {{printf \"a\" 3 \"x\"}} {{printf \"5%\"}}",
            "%!s(MISSING) a%!(EXTRA int=3, string=x) 5%!(NOVERB)",
        ),
        ("{{printf \"%d %z\" nil 3}}", "%!d(<nil>) %!z(int=3)"),
        ("{{printf \"%5t|%-4v|\" true \"é\"}}", " true|é   |"),
    ]);
}

fn check_faults(table: &[(&str, &str)]) {
    for (template, message) in table {
        let err = fault(template);
        assert_eq!(error::message(&err), *message, "{template}");
        assert_eq!(error::kind(&err), Some(error::Kind::Usage), "{template}");
    }
}

#[test]
fn what_cannot_be_parsed_is_shown() {
    check_faults(&[
        ("{{foo}}", "template 1:3: no function \"foo\""),
        ("{{html .Name}}", "template 1:3: no function \"html\""),
        ("{{if true}}", "template 1:3: {{if}} without its {{end}}"),
        ("{{end}}", "template 1:3: {{end}} without its beginning"),
        ("{{else}}", "template 1:3: {{else}} without its {{if}}"),
        (
            "{{if true}}{{else}}{{else}}{{end}}",
            "template 1:22: a second {{else}}",
        ),
        ("{{.Name", "template 1:3: action without its closing }}"),
        ("{{\"a}}", "template 1:3: string without its closing \""),
        ("{{}}", "template 1:3: a value is missing"),
        ("{{.Name |}}", "template 1:9: a value is missing"),
        (
            "{{.Name | .ID}}",
            "template 1:11: expected a function after |",
        ),
        (
            "{{.Name .ID}}",
            "template 1:3: arguments after something that is no function",
        ),
        ("{{nil}}", "template 1:3: nil is not a command"),
        ("{{$y}}", "template 1:3: no variable \"$y\""),
        (
            "{{if true}}{{$x := 1}}{{end}}{{$x}}",
            "template 1:32: no variable \"$x\"",
        ),
        ("{{break}}", "template 1:3: {{break}} outside of {{range}}"),
        (
            "{{template \"x\"}}",
            "template 1:3: {{template}} is not supported",
        ),
        (
            "{{(len .Name}}",
            "template 1:3: parenthesis without its closing )",
        ),
        ("{{.Name)}}", "template 1:8: expected }}"),
        ("{{/* a}}", "template 1:3: comment without its closing */"),
        ("{{1x}}", "template 1:3: expected a number, got \"1x\""),
        ("{{;}}", "template 1:3: unexpected character ';'"),
        ("{{é.}}", "template 1:3: no function \"é\""),
    ]);
}

#[test]
fn what_cannot_be_evaluated_is_shown_with_what_there_is() {
    check_faults(&[
        ("{{.Foo}}", "template 1:3: no field \"Foo\""),
        (
            "ab{{.State.Foo}}",
            "template 1:5: no field \"Foo\" in .State",
        ),
        (
            "a\n{{$x := .State}}{{$x.Foo}}",
            "template 2:19: no field \"Foo\" in $x",
        ),
        (
            "{{.Name.Foo}}",
            "template 1:3: cannot take field \"Foo\": .Name is a string",
        ),
        (
            "{{.State.Health.Status}}",
            "template 1:3: cannot take field \"Status\": .State.Health is null",
        ),
        (
            "{{len 3}}",
            "template 1:3: len: wants a list, map or string, got a number",
        ),
        (
            "{{not 1 2}}",
            "template 1:3: not: wants at most 1 arguments, got 2",
        ),
        (
            "{{index .Names 5}}",
            "template 1:3: index: 5 is out of range, there are 2",
        ),
        (
            "{{eq 1 \"a\"}}",
            "template 1:3: eq: cannot compare a number with a string",
        ),
        (
            "{{join .Name \",\"}}",
            "template 1:3: join: wants a list and a string, got a string",
        ),
        (
            "{{range .Name}}{{end}}",
            "template 1:9: range needs a list or map, got a string",
        ),
        (
            "{{slice .Name 2 9}}",
            "template 1:3: slice: 2:9 is out of range, there are 3",
        ),
    ]);
    assert_eq!(
        error::hint(&fault("{{.State.Foo}}")),
        Some("use one of Status, ExitCode, Health")
    );
    let hint = fault("{{Name}}");
    assert!(error::hint(&hint).unwrap().ends_with("or a field as .Name"));
}

#[test]
fn deep_nesting_is_refused_and_not_a_crash() {
    let parentheses = format!("{{{{{}1{}}}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(error::message(&fault(&parentheses)).contains("too deeply"));
    let blocks = "{{if true}}".repeat(5000) + &"{{end}}".repeat(5000);
    assert!(error::message(&fault(&blocks)).contains("too deeply"));
    assert_eq!(run(&"{{if true}}{{end}}".repeat(5000)), "");
    assert_eq!(run(&"{{(1)}}".repeat(200)), "1".repeat(200));
}

fn rows() -> Vec<Value> {
    vec![
        json!({"ID": "3f2a91c0d7be", "Names": ["web"], "CreatedAt": "now"}),
        json!({"ID": "0123456789ab", "Names": ["database"], "CreatedAt": "then"}),
    ]
}

fn render(template: &str) -> String {
    let headers = [("ID", "CONTAINER ID")];
    Template::parse(template)
        .unwrap()
        .render(&rows(), &headers)
        .unwrap()
}

#[test]
fn rows_have_a_line_each_and_tables_a_heading() {
    let table = [
        ("{{.ID}}", "3f2a91c0d7be\n0123456789ab\n"),
        ("{{.ID}}\\n", "3f2a91c0d7be\n0123456789ab\n"),
        ("{{.ID}}\\tx", "3f2a91c0d7be\tx\n0123456789ab\tx\n"),
        ("{{range .}}{{.ID}} {{end}}", "3f2a91c0d7be 0123456789ab \n"),
        (
            "table {{.ID}}\\t{{join .Names \",\"}}\\t{{.CreatedAt}}",
            "CONTAINER ID  NAMES       CREATED AT\n\
             3f2a91c0d7be  web         now\n\
             0123456789ab  database    then\n",
        ),
        (
            "table {{.CreatedAt}} x {{.ID}}",
            "CREATED AT  x           CONTAINER ID\n\
             now         x           3f2a91c0d7be\n\
             then        x           0123456789ab\n",
        ),
        (
            "table {{if .ID}}{{.ID}}{{end}}\\t{{range .Names}}{{.}}{{end}}",
            "CONTAINER ID  NAMES\n3f2a91c0d7be  web\n0123456789ab  database\n",
        ),
    ];
    for (template, text) in table {
        assert_eq!(render(template), text, "{template}");
    }
    let parsed = Template::parse("table {{.ID}}\\n").unwrap();
    assert_eq!(parsed.render(&[], &[]).unwrap(), "ID\n");
    let parsed = Template::parse("table {{.ID}}").unwrap();
    assert_eq!(parsed.render(&[], &[]).unwrap(), "ID\n");
    let lines: Vec<String> = rows()
        .iter()
        .map(|row| parsed.execute(row).unwrap())
        .collect();
    assert_eq!(parsed.join(&lines, None), "3f2a91c0d7be\n0123456789ab\n");
}

proptest::proptest! {
    #[test]
    fn no_template_makes_it_panic(template in "(\\{\\{|\\}\\}|if |range |end|else|with |\\.Names|\\.|\\$x|:=|\\(|\\)|\\||\"|printf |%5d|eq |é|-| |1|'){0,14}") {
        if let Ok(parsed) = Template::parse(&template) {
            parsed.execute(&container()).ok();
        }
    }
}
