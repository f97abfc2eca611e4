//! What is shipped for operators (spec 13.4): rules, dashboards, runbooks, image, unit, manifests. Each is parsed, held to
//! the code that it is about, and shown to the tool that it is for, where that is there.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tidegate::config::mint;

fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    read_to_string(root(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn documents(name: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&text(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn yaml(name: &str) -> Value {
    let mut documents = documents(name);
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0)
}

/// The files of a folder with this ending, from the root of the repository, in order.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let names = read_dir(root(folder)).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> =
        names.filter(|name| name.ends_with(ending)).map(|name| format!("{folder}/{name}")).collect();
    names.sort();
    names
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn words(value: &Value) -> Vec<&str> {
    list(value).iter().map(word).collect()
}

fn time(value: &Value) -> Duration {
    humantime::parse_duration(word(value)).unwrap()
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}{}", said(&output.stdout), said(&output.stderr));
    output
}

fn promtool(arguments: &[&str], folder: &Path) {
    succeeds(Command::new("promtool").args(arguments).current_dir(folder));
}

/// All rules with their group's name left out.
fn rules() -> Vec<Value> {
    let files = ["deploy/prometheus/recording.rules.yml", "deploy/prometheus/alerts.rules.yml"];
    let groups = files.iter().flat_map(|file| list(&yaml(file)["groups"]).to_vec());
    groups.flat_map(|group| list(&group["rules"]).to_vec()).collect()
}

fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule["alert"].is_string()).collect()
}

/// A family of the catalogue.
struct Family {
    kind: String,
    labels: BTreeSet<String>,
    help: String,
}

/// Every family, read from where the code registers it: a family without a sample is in no scrape.
fn catalogue() -> BTreeMap<String, Family> {
    let mut families = BTreeMap::new();
    for file in files("src/telemetry", ".rs").iter().filter(|file| !file.ends_with("tests.rs")) {
        let source = text(file);
        let code = source.split("mod tests {").next().unwrap();
        for prefix in ["\"tidegate_", "\"gen_ai_", "\"process_"] {
            for (at, _) in code.match_indices(prefix) {
                let Some(call) = code[..at].trim_end().strip_suffix('(') else { continue };
                let kind = call.rsplit(['.', ' ']).next().unwrap().to_owned();
                let (name, rest) = code[at + 1..].split_once('"').unwrap();
                let call = rest.split(")?").next().unwrap();
                let help = call.split('"').nth(1).unwrap_or_default().to_owned();
                let labels =
                    call.split_once("&[").map_or("", |(_, labels)| labels.split(']').next().unwrap());
                let labels = labels.split('"').skip(1).step_by(2).map(str::to_owned);
                let mut labels: BTreeSet<_> = labels.collect();
                if call.contains("&labels") {
                    labels.extend(["gen_ai_operation_name", "gen_ai_request_model"].map(str::to_owned));
                }
                families.insert(name.to_owned(), Family { kind, labels, help });
            }
        }
    }
    families
}

/// Every name of a metric in a text, and what follows it.
fn names(text: &str) -> Vec<(&str, &str)> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(inside) {
        let (word, after) = rest[at..].split_at(rest[at..].find(|c| !inside(c)).unwrap_or(rest.len() - at));
        let own = word.split_once(':').map_or(word, |(_, name)| name);
        if ["tidegate_", "gen_ai_", "process_"].iter().any(|prefix| own.starts_with(prefix)) {
            found.push((word, after));
        }
        rest = after;
    }
    found
}

/// Whether the catalogue or a recording rule has what this name with this selector means.
fn complaint(
    name: &str,
    after: &str,
    catalogue: &BTreeMap<String, Family>,
    recorded: &BTreeSet<String>,
) -> Option<String> {
    if name.contains(':') {
        return (!recorded.contains(name)).then(|| format!("{name} is not recorded"));
    }
    let labels: BTreeSet<_> = catalogue.values().flat_map(|family| &family.labels).collect();
    if labels.contains(&name.to_owned()) {
        return None;
    }
    let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    let family = match of_histogram.and_then(|base| catalogue.get(base)) {
        Some(family) if family.kind.starts_with("histogram") => family,
        _ => match catalogue.get(name) {
            Some(family) => family,
            None => return Some(format!("there is no {name}")),
        },
    };
    let selector = after.strip_prefix('{').map_or("", |rest| rest.split('}').next().unwrap_or_default());
    let mut rest = selector;
    while let Some((label, value)) = rest.split_once(['=', '!']) {
        let label = label.trim_matches([',', ' ']);
        if !["job", "instance", "le"].contains(&label) && !family.labels.contains(label) {
            return Some(format!("{name} has no label {label}"));
        }
        rest = value.splitn(3, '"').nth(2).unwrap_or_default();
    }
    None
}

/// The queries of a dashboard by the titles of their panels.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = list(&dashboard["panels"]).iter();
    panels
        .flat_map(|panel| {
            let title = word(&panel["title"]).to_owned();
            list(&panel["targets"])
                .iter()
                .map(move |target| (title.clone(), word(&target["expr"]).to_owned()))
        })
        .collect()
}

/// Goal: Prometheus' own tool accepts configuration and rules, and every alert does what its test says.
#[test]
fn promtool_accepts_rules_and_their_tests() {
    let folder = root("deploy/prometheus");
    promtool(&["check", "config", "prometheus.yml"], &folder);
    let tests = files("deploy/prometheus/tests", ".yml");
    assert!(!tests.is_empty());
    for test in tests {
        promtool(&["test", "rules", root(&test).to_str().unwrap()], &folder);
    }
}

/// Goal: every alert says how bad it is and what it means, is tested to fire and not to fire, and has a page with the four
/// sections that is found from the index; and there are no tests and pages of anything else.
#[test]
fn every_alert_has_a_page_and_a_test() {
    let groups: Vec<_> = files("deploy/prometheus/tests", ".yml")
        .iter()
        .flat_map(|file| list(&yaml(file)["tests"]).to_vec())
        .collect();
    let index = text("deploy/runbooks/README.md");
    for alert in alerts() {
        let name = word(&alert["alert"]);
        let severity = word(&alert["labels"]["severity"]);
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        let told = &alert["annotations"];
        assert!(!word(&told["summary"]).is_empty() && !word(&told["description"]).is_empty(), "{name}");
        assert!(word(&told["runbook_url"]).ends_with(&format!("/tidegate/{name}.md")), "{name}");
        let page = text(&format!("deploy/runbooks/alerts/{name}.md"));
        assert!(page.contains(&format!("Alert `{name}`, {severity}.")), "{name}: the page's head");
        for section in ["## Meaning", "## Impact", "## Diagnosis", "## Remedy"] {
            assert!(page.contains(section), "{name}: no {section}");
        }
        assert!(index.contains(&format!("(alerts/{name}.md)")), "{name} is not in the index");
        let own: Vec<_> = groups.iter().filter(|group| group["name"] == name).collect();
        let looks = own.iter().flat_map(|group| list(&group["promql_expr_test"]));
        let looks = looks.filter(|look| word(&look["expr"]).contains(&format!("\"{name}\"")));
        let (fires, silent): (Vec<_>, Vec<_>) =
            looks.partition(|look| !list(&look["exp_samples"]).is_empty());
        assert!(!fires.is_empty() && !silent.is_empty(), "{name}: a test has to see it fire and not fire");
    }
    assert_eq!(groups.len(), alerts().len(), "tests");
    assert_eq!(files("deploy/runbooks/alerts", ".md").len(), alerts().len(), "pages");
}

/// Goal: no rule, dashboard, page or guide names a metric or asks for a label that the gateway does not have.
#[test]
fn every_metric_that_is_named_exists() {
    let catalogue = catalogue();
    assert!(catalogue.len() > 40 && catalogue["tidegate_requests_total"].labels.contains("code"));
    let rules = rules();
    let recorded: BTreeSet<_> =
        rules.iter().filter_map(|rule| rule["record"].as_str()).map(str::to_owned).collect();
    let mut texts: Vec<(String, String)> = rules
        .iter()
        .map(|rule| {
            (
                rule["alert"].as_str().or(rule["record"].as_str()).unwrap().to_owned(),
                word(&rule["expr"]).to_owned(),
            )
        })
        .collect();
    for file in files("deploy/grafana/dashboards", ".json") {
        let dashboard: Value = serde_json::from_str(&text(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        texts.extend(
            queries(&dashboard).into_iter().map(|(title, query)| (format!("{file}: {title}"), query)),
        );
        let variables =
            list(&dashboard["templating"]["list"]).iter().map(|variable| variable["query"].to_string());
        texts.extend(variables.map(|query| (file.clone(), query.replace("\\\"", "\""))));
    }
    let pages = [files("deploy/runbooks", ".md"), files("deploy/runbooks/alerts", ".md")].concat();
    for file in pages
        .into_iter()
        .chain(["docs/operations.md", "docs/configuration.md", "README.md"].map(str::to_owned))
    {
        texts.push((file.clone(), text(&file)));
    }
    let complaints: Vec<_> = texts
        .iter()
        .flat_map(|(place, text)| names(text).into_iter().map(move |found| (place, found)))
        .filter_map(|(place, (name, after))| {
            Some(format!("{place}: {}", complaint(name, after, &catalogue, &recorded)?))
        })
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(complaint("tidegate_requests_total", "{key=\"x\"}", &catalogue, &recorded).is_some());
    assert!(complaint("tidegate_requests_seconds_bucket", "", &catalogue, &recorded).is_some());
}

/// Goal: every family of the contract is there as what it says, with the labels it says (spec 13.2); every family says in a
/// sentence what it is, and stands in the table that operators read.
#[test]
fn the_catalogue_is_that_of_the_contract() {
    let catalogue = catalogue();
    for (name, kind, labels) in [
        ("gen_ai_server_request_duration_seconds", "histogram", "gen_ai_operation_name gen_ai_request_model"),
        (
            "gen_ai_server_time_to_first_token_seconds",
            "histogram",
            "gen_ai_operation_name gen_ai_request_model",
        ),
        (
            "gen_ai_server_time_per_output_token_seconds",
            "histogram",
            "gen_ai_operation_name gen_ai_request_model",
        ),
        (
            "gen_ai_client_token_usage",
            "histogram",
            "gen_ai_operation_name gen_ai_request_model gen_ai_token_type",
        ),
        ("tidegate_requests_total", "counter", "code model route status"),
        ("tidegate_attempts_total", "counter", "channel outcome"),
        ("tidegate_rewrites_total", "counter", "class status"),
        ("tidegate_rejections_total", "counter", "reason stage"),
        ("tidegate_in_flight", "gauge", "model"),
        ("tidegate_channel_in_flight", "gauge", "channel"),
        ("tidegate_channel_state", "gauge", "channel state"),
        ("tidegate_credential_state", "gauge", "channel credential state"),
        ("tidegate_cost_nanodollars_total", "counter", "model"),
        ("tidegate_account_balance_nanodollars", "gauge", "account"),
        ("tidegate_certificate_expiry_timestamp_seconds", "gauge", "listener"),
        ("process_open_fds", "gauge", ""),
        ("process_cpu_seconds_total", "counter_of_second", ""),
        ("tidegate_tokens_total", "counter", "channel model type"),
        ("tidegate_overhead_seconds", "histogram", ""),
        ("tidegate_commit_gate_seconds", "histogram", ""),
        ("tidegate_stream_end_total", "counter", "reason"),
        ("tidegate_quota_reserved_nanodollars_total", "counter", ""),
        ("tidegate_quota_settled_nanodollars_total", "counter", ""),
        ("tidegate_quota_released_nanodollars_total", "counter", ""),
        ("tidegate_quota_outstanding_nanodollars", "gauge", ""),
        ("tidegate_config_generation", "gauge", ""),
        ("tidegate_config_last_reload_successful", "gauge", ""),
        ("tidegate_build_info", "gauge", "version"),
    ] {
        let family = catalogue.get(name).unwrap_or_else(|| panic!("there is no {name}"));
        let found = family.labels.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        assert_eq!((family.kind.trim_end_matches('s'), found.as_str()), (kind, labels), "{name}");
    }
    let readme = text("README.md");
    for (name, family) in &catalogue {
        assert!(readme.contains(&format!("`{name}`")), "{name} is not in the README");
        assert!(family.help.len() > 20 && family.help.ends_with('.'), "{name}: {}", family.help);
        assert_eq!(family.kind.starts_with("counter"), name.ends_with("_total"), "{name}: {}", family.kind);
    }
}

/// Goal: dashboards are whole, their variables declared, their queries such that Prometheus takes them, and amounts are shown
/// in dollars.
#[test]
fn dashboards_are_sound() {
    let mut uids = BTreeSet::new();
    let mut probe = String::from("groups:\n- name: queries\n  rules:\n");
    for file in files("deploy/grafana/dashboards", ".json") {
        let dashboard: Value = serde_json::from_str(&text(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(uids.insert(word(&dashboard["uid"]).to_owned()), "{file}: uid");
        let ids: BTreeSet<_> =
            list(&dashboard["panels"]).iter().map(|panel| panel["id"].to_string()).collect();
        assert_eq!(ids.len(), list(&dashboard["panels"]).len(), "{file}: ids of panels");
        let variables = list(&dashboard["templating"]["list"]).iter().map(|variable| word(&variable["name"]));
        let known: BTreeSet<_> = variables.chain(["__rate_interval", "__all"]).collect();
        for used in dashboard.to_string().split('$').skip(1) {
            let name = used
                .trim_start_matches('{')
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap();
            assert!(known.contains(name), "{file}: the variable {name}");
        }
        for panel in list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row") {
            let unit = &panel["fieldConfig"]["defaults"]["unit"];
            for target in list(&panel["targets"]) {
                let query = word(&target["expr"]);
                let money = query.contains("nanodollars");
                assert_eq!(money, unit == "currencyUSD", "{file}: {}", panel["title"]);
                assert!(!money || query.ends_with("/ 1e9"), "{file}: {}", panel["title"]);
            }
        }
        for (index, (_, query)) in queries(&dashboard).into_iter().enumerate() {
            let query = query.replace("$__rate_interval", "5m").replace('\'', "''");
            probe += &format!("  - {{ record: \"q{}_{index}\", expr: '{query}' }}\n", uids.len());
        }
    }
    assert_eq!(uids.len(), 3);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("queries.yml"), probe).unwrap();
    promtool(&["check", "rules", "queries.yml"], folder.path());
}

/// Lets the gateway check a configuration; files of secrets are made for it.
fn check(config: &str, secrets: &str) {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_str().unwrap();
    for secret in config.split(secrets).skip(1) {
        let name: String = secret.chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect();
        std::fs::write(folder.path().join(name), "secret").unwrap();
    }
    let file = folder.path().join("tidegate.yaml");
    std::fs::write(&file, config.replace(secrets, &format!("{at}/"))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let said = succeeds(command.args(["check", "-c"]).arg(&file).env("TIDEGATE_ADMIN_TOKEN", "token"));
    assert!(!String::from_utf8_lossy(&said.stderr).contains("warning"));
}

/// How long a gateway of this configuration may take to end.
fn end_of(config: &Value) -> Duration {
    time(&config["server"]["drain"]) + time(&config["server"]["grace"])
}

fn port(value: &Value) -> &str {
    word(value).rsplit(':').next().unwrap()
}

/// Goal: no image without a version, and none whose version moves with every release.
#[test]
fn images_have_versions() {
    let compose = yaml("deploy/docker/compose.yaml");
    let of_compose =
        compose["services"].as_object().unwrap().values().map(|service| word(&service["image"]).to_owned());
    let dockerfile = text("deploy/docker/Dockerfile");
    let of_build = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("FROM "))
        .map(|line| line.split(' ').next().unwrap().to_owned());
    let manifest = yaml("deploy/kubernetes/statefulset.yaml");
    let of_cluster = word(&manifest["spec"]["template"]["spec"]["containers"][0]["image"]).to_owned();
    for image in of_compose.chain(of_build).chain([of_cluster]) {
        let (name, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{image} has no tag"));
        assert!(tag.starts_with(|c: char| c.is_ascii_digit() || c == 'v'), "{image}");
        assert!(name != "tidegate" || tag == env!("CARGO_PKG_VERSION"), "{image} is another version");
    }
    let (_, last) = dockerfile.rsplit_once("\nFROM ").unwrap();
    for line in
        ["\nUSER 10001:10001\n", "\nVOLUME /var/lib/tidegate\n", "CMD [\"tidegate\", \"healthcheck\"]\n"]
    {
        assert!(last.contains(line), "{line}");
    }
}

/// Goal: the compose file refers to files that are there, opens nothing beyond this machine, and fits the configuration
/// that it mounts.
#[test]
fn the_compose_file_holds_together() {
    let folder = root("deploy/docker");
    let compose = yaml("deploy/docker/compose.yaml");
    let services = compose["services"].as_object().unwrap();
    assert_eq!(
        services.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        ["east", "gateway", "grafana", "prometheus", "west"].into()
    );
    for (name, service) in services {
        for port in words(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
        for volume in words(&service["volumes"]) {
            let source = volume.split(':').next().unwrap();
            let is_there = if source.starts_with('.') {
                folder.join(source).exists()
            } else {
                compose["volumes"].get(source).is_some()
            };
            assert!(is_there, "{name}: {source}");
        }
        for other in words(&service["depends_on"]) {
            assert!(services.contains_key(other), "{name}: {other}");
        }
    }
    let build = &services["gateway"]["build"];
    assert!(folder.join(word(&build["context"])).join(word(&build["dockerfile"])).is_file());
    let config = yaml("deploy/docker/tidegate.yaml");
    check(&text("deploy/docker/tidegate.yaml"), "/run/secrets/none/");
    assert!(time(&services["gateway"]["stop_grace_period"]) > end_of(&config) + Duration::from_secs(10));
    for channel in list(&config["channels"]) {
        let (host, port) =
            word(&channel["base_url"]).strip_prefix("http://").unwrap().split_once(':').unwrap();
        assert!(services.contains_key(host) && port == "9101/v1", "{host}:{port}");
    }
    let key = "demo-key-of-the-compose-file";
    assert_eq!(config["keys"][0]["digest"], mint::digest_text(&mint::digest(key)));
    assert!(text("deploy/docker/compose.yaml").contains(key));
    let scraped = yaml("deploy/prometheus/prometheus.yml");
    assert_eq!(
        scraped["scrape_configs"][0]["static_configs"][0]["targets"][0],
        format!("gateway:{}", port(&config["admin"]["listen"]))
    );
    let source = &yaml("deploy/grafana/provisioning/datasources/prometheus.yaml")["datasources"][0];
    assert_eq!((word(&source["uid"]), word(&source["url"])), ("prometheus", "http://prometheus:9090"));
    let path =
        &yaml("deploy/grafana/provisioning/dashboards/tidegate.yaml")["providers"][0]["options"]["path"];
    assert!(
        words(&services["grafana"]["volumes"])
            .contains(&format!("../grafana/dashboards:{}:ro", word(path)).as_str())
    );
}

/// Goal: the unit waits for a drain, does not repeat what cannot succeed, and gives away as little as systemd's own
/// measure asks for.
#[test]
fn the_unit_is_hardened() {
    let unit = text("deploy/systemd/tidegate.service");
    let value = |name: &str| {
        unit.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or_else(|| panic!("no {name}"))
    };
    // What `tests/it/systemd.rs` shows: the main process alone says who follows it, and is the one that a stop reaches.
    assert_eq!(
        (value("Type"), value("NotifyAccess"), value("KillMode"), value("Restart")),
        ("notify", "main", "mixed", "on-failure")
    );
    assert_eq!(value("ExecReload"), "/bin/kill -HUP $MAINPID");
    let upgrade = "systemctl kill --signal=USR2 --kill-who=main tidegate";
    assert!(unit.contains(upgrade) && text("docs/operations.md").contains(upgrade));
    assert_eq!((value("RestartPreventExitStatus"), value("StartLimitIntervalSec")), ("78 2", "0"));
    assert_eq!(
        (value("NoNewPrivileges"), value("ProtectSystem"), value("CapabilityBoundingSet")),
        ("yes", "strict", "")
    );
    let edge = yaml("conf/edge.yaml");
    assert!(
        Duration::from_secs(value("TimeoutStopSec").parse().unwrap())
            > end_of(&edge) + Duration::from_secs(10)
    );
    assert_eq!(word(&edge["store"]["path"]), format!("/var/lib/{}", value("StateDirectory")));
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.service");
    std::fs::write(&file, unit.replace("/usr/bin/tidegate", env!("CARGO_BIN_EXE_tidegate"))).unwrap();
    succeeds(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file));
    let security = ["security", "--offline=true", "--no-pager", "--threshold=15"];
    succeeds(Command::new("systemd-analyze").args(security).arg(&file));
}

/// The objects of a kind in all manifests.
fn manifests() -> Vec<Value> {
    let files =
        [files("deploy/kubernetes", ".yaml"), files("deploy/kubernetes/monitoring", ".yaml")].concat();
    files.iter().flat_map(|file| documents(file)).collect()
}

/// Goal: there is one gateway with its volume, with probes that need no token and time enough to drain, and nothing that
/// would make two of it.
#[test]
fn the_stateful_set_is_one_gateway() {
    let all = manifests();
    let kinds: BTreeSet<_> = all.iter().map(|object| word(&object["kind"])).collect();
    let wanted = [
        "ConfigMap",
        "Kustomization",
        "Namespace",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "PrometheusRule",
        "Secret",
        "Service",
        "ServiceMonitor",
        "StatefulSet",
    ];
    assert_eq!(kinds, wanted.into());
    let set = yaml("deploy/kubernetes/statefulset.yaml");
    assert_eq!(set["spec"]["replicas"], 1);
    let pod = &set["spec"]["template"]["spec"];
    let gateway = &pod["containers"][0];
    let claim = &set["spec"]["volumeClaimTemplates"][0];
    let config = text("deploy/kubernetes/configmap.yaml");
    let config = config.split_once("tidegate.yaml: |\n").unwrap().1;
    check(config, "/run/secrets/tidegate/");
    let config: Value = serde_saphyr::from_str(config).unwrap();
    let mounts = list(&gateway["volumeMounts"]);
    let ledger = mounts.iter().find(|mount| mount["name"] == claim["metadata"]["name"]).unwrap();
    assert_eq!(ledger["mountPath"], config["store"]["path"]);
    for (probe, path) in
        [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(gateway[probe]["httpGet"]["path"], path, "{probe}");
        assert_eq!(gateway[probe]["httpGet"]["port"], "admin", "{probe}");
    }
    let ports: BTreeMap<_, _> = list(&gateway["ports"])
        .iter()
        .map(|port| (word(&port["name"]), port["containerPort"].to_string()))
        .collect();
    assert_eq!(ports["admin"], port(&config["admin"]["listen"]));
    assert_eq!(ports["http"], port(&config["server"]["listen"][0]));
    assert!(config["admin"]["token"].is_object(), "off loopback nothing else keeps strangers out");
    let patience = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
    assert!(patience > end_of(&config) + Duration::from_secs(10));
    let may = &gateway["securityContext"];
    assert_eq!(
        (&may["readOnlyRootFilesystem"], &may["allowPrivilegeEscalation"]),
        (&true.into(), &false.into())
    );
    assert_eq!(
        (&may["capabilities"]["drop"][0], &pod["securityContext"]["runAsNonRoot"]),
        (&"ALL".into(), &true.into())
    );
    let secret = yaml("deploy/kubernetes/secret.example.yaml");
    for key in ["admin-token", "direct-key"] {
        assert!(secret["stringData"][key].is_string(), "{key}");
    }
}

/// Goal: manifests find each other: resources are files, labels select the pod, and the rules of the operator are those of
/// `deploy/prometheus`. `UPDATE_DOCS=1` writes them anew.
#[test]
fn manifests_find_each_other() {
    for folder in ["deploy/kubernetes", "deploy/kubernetes/monitoring"] {
        let listed = yaml(&format!("{folder}/kustomization.yaml"));
        let listed: BTreeSet<_> =
            words(&listed["resources"]).into_iter().map(|name| format!("{folder}/{name}")).collect();
        let there = files(folder, ".yaml").into_iter();
        let there = there
            .filter(|name| !name.ends_with("kustomization.yaml") && !name.ends_with("secret.example.yaml"));
        assert_eq!(listed, there.collect());
    }
    let all = manifests();
    let pod = &yaml("deploy/kubernetes/statefulset.yaml")["spec"];
    let labels = &pod["template"]["metadata"]["labels"];
    let services: Vec<_> = all.iter().filter(|object| object["kind"] == "Service").collect();
    assert!(services.iter().all(|service| service["spec"]["selector"] == *labels));
    let headless = services.iter().find(|service| service["metadata"]["name"] == pod["serviceName"]).unwrap();
    assert_eq!(headless["spec"]["clusterIP"], "None");
    for kind in ["NetworkPolicy", "PodDisruptionBudget"] {
        let object = all.iter().find(|object| object["kind"] == kind).unwrap();
        let selector = if kind == "NetworkPolicy" { "podSelector" } else { "selector" };
        assert_eq!(object["spec"][selector]["matchLabels"], *labels, "{kind}");
    }
    let monitor = yaml("deploy/kubernetes/monitoring/servicemonitor.yaml");
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], headless["metadata"]["labels"]);
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], headless["spec"]["ports"][0]["name"]);
    hold_operator_rules();
}

fn hold_operator_rules() {
    let file = "deploy/kubernetes/monitoring/prometheusrule.yaml";
    let rules = |name: &str| {
        let own = text(&format!("deploy/prometheus/{name}.rules.yml"));
        let groups = own[own.find("groups:").unwrap()..].lines().map(|line| match line {
            "" => "\n".to_owned(),
            line => format!("  {line}\n"),
        });
        format!(
            "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: tidegate-{name}\n  \
             labels: {{ app.kubernetes.io/name: tidegate }}\nspec:\n{}",
            groups.collect::<String>()
        )
    };
    let head = "# The rules of deploy/prometheus for the Prometheus operator. A test writes this file anew:\n\
                # UPDATE_DOCS=1 cargo test --test it deploy::\n";
    let expected = format!("{head}{}---\n{}", rules("recording"), rules("alerts"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(root(file), expected).unwrap();
    } else {
        assert!(
            text(file) == expected,
            "{file} differs from deploy/prometheus; write it anew with UPDATE_DOCS=1"
        );
    }
}

/// Goal: the kept schema is one, takes every configuration that is shipped, `complete.yaml` included, and refuses what the
/// gateway refuses: a member with a typing error, a number without its unit, one that is too large.
#[test]
fn the_schema_takes_what_is_shipped() {
    let schema: Value = serde_json::from_str(&text("conf/tidegate.schema.json")).unwrap();
    assert!(jsonschema::draft202012::meta::is_valid(&schema));
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let shipped = [
        files("conf", ".yaml"),
        vec!["deploy/docker/tidegate.yaml".into(), "src/config/complete.yaml".into()],
    ];
    for file in shipped.concat() {
        // YAML has names that are numbers, JSON has not.
        let config = yaml(&file);
        let faults: Vec<_> = validator.iter_errors(&config).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{file}: {faults:?}");
    }
    for (member, value) in [("bodymax", json!("1MiB")), ("body_max", json!(1)), ("threads", json!(2000))] {
        let mut config = yaml("conf/edge.yaml");
        config["server"][member] = value;
        assert!(!validator.is_valid(&config), "{member}");
    }
}

/// Goal: what documents refer to inside the repository is there.
#[test]
fn links_lead_somewhere() {
    let folders = ["deploy/runbooks", "deploy/runbooks/alerts", "docs"];
    let pages = folders.map(|folder| files(folder, ".md")).concat();
    let at_the_top = ["README.md", "SECURITY.md", "ARCHITECTURE.md"].map(str::to_owned);
    for file in pages.into_iter().chain(at_the_top) {
        let text = text(&file);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("https://")) {
            if let Some(anchor) = link.strip_prefix('#') {
                let heads = text.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
                let there =
                    heads.map(|head| head.to_lowercase().replace(' ', "-")).any(|head| head == anchor);
                assert!(there, "{file}: {link}");
                continue;
            }
            let target = root(&file).parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.exists(), "{file}: {link}");
        }
    }
}
