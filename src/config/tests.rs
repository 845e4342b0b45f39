use super::*;

fn load(file: &str, environment: &[(&str, &str)], overrides: Overrides) -> Result<Config> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("walrs.toml");
    std::fs::write(&path, file).unwrap();
    Config::load(Some(&path), overrides, environment.iter().copied().collect())
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = "repository = \"/file\"\n[wal]\npush_timeout = \"1m\"\nfetch_timeout = \"2m\"";
    let environment = [("WALRS_REPOSITORY", "/environment"), ("WALRS_WAL_PUSH_TIMEOUT", "3m")];
    let config = load(file, &environment, vec![("repository", "/flag".into())]).unwrap();
    let settings = config.settings().unwrap();
    assert_eq!(settings.repository.as_deref(), Some("/flag"));
    assert_eq!(settings.wal.push_timeout.as_secs(), 180);
    assert_eq!(settings.wal.fetch_timeout.as_secs(), 120);
    assert_eq!(settings.wal.push_ahead, 8);
    assert_eq!(config.value("repository").unwrap().origin, Origin::CommandLine);
    assert_eq!(config.value("wal.push_ahead").unwrap().origin, Origin::Default);
}

#[test]
fn an_unknown_key_is_an_error_that_names_key_file_and_nearest_key() {
    let error = load("[compression]\nmethd = \"zstd\"", &[], vec![]).err().unwrap();
    let report = error.report();
    assert!(report.contains("`compression.methd`"), "{report}");
    assert!(report.contains("walrs.toml"), "{report}");
    assert!(report.contains("did you mean `compression.method`?"), "{report}");
    assert_eq!(error.kind().exit_code(), 2);
}

#[test]
fn a_malformed_value_names_its_origin_and_what_was_expected() {
    let config = load("", &[("WALRS_WAL_PUSH_TIMEOUT", "soon")], vec![]).unwrap();
    let report = config.settings().err().unwrap().report();
    assert!(report.contains("environment WALRS_WAL_PUSH_TIMEOUT"), "{report}");
    assert!(report.contains("such as `5m`"), "{report}");
}

#[test]
fn libpq_variables_are_read_and_walrs_names_win() {
    let environment = [("PGHOST", "libpq"), ("PGPORT", "5433"), ("WALRS_POSTGRES_HOST", "own")];
    let settings = load("", &environment, vec![]).unwrap().settings().unwrap();
    assert_eq!(settings.postgres.host.as_deref(), Some("own"));
    assert_eq!(settings.postgres.port, Some(5433));
}

/// K2
#[test]
fn secrets_are_redacted_in_the_effective_configuration_and_in_debug() {
    let environment = [
        ("PGPASSWORD", "hunter2"),
        ("WALRS_ENCRYPTION_KEY_COMMAND", "vault --token hunter2"),
        ("WALRS_REPOSITORY", "s3://key:hunter2@bucket"),
    ];
    let config = load("", &environment, vec![]).unwrap();
    for (spec, value) in config.effective() {
        assert!(!value.is_some_and(|value| value.text.contains("hunter2")), "{}", spec.name);
    }
    let settings = load("", &environment[..1], vec![]).unwrap().settings().unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
}

/// K2
#[test]
fn a_file_that_is_no_toml_is_explained_without_repeating_its_text() {
    let error = load("[postgres]\npassword = \"hunter2\n", &[], vec![]).err().unwrap();
    assert!(!error.report().contains("hunter2"), "{}", error.report());
    assert!(error.report().contains("line 2"), "{}", error.report());
}

#[test]
fn a_key_that_this_version_does_nothing_with_is_told_when_it_is_set() {
    let file = "[retention]\nkeep_last = 7\ngrace = \"1h\"";
    assert_eq!(load(file, &[], vec![]).unwrap().set_for_later(), ["retention.keep_last"]);
}

#[test]
fn every_default_parses() {
    let settings = Config::load(None, vec![], Environment::default()).unwrap().settings().unwrap();
    assert_eq!(settings.retention.grace.as_secs(), 86_400);
    assert_eq!(settings.wal.fetch_ahead_bytes, 256 << 20);
    assert_eq!(settings.backup.full_every.as_secs(), 30 * 86_400);
}
