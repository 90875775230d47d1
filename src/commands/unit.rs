//! Runs a command as a unit of systemd's would: with its user, settings, credentials and state (`--unit`).
//!
//! Those are known to systemd alone: a password that is a credential, and drop-ins. So systemd is asked for what the
//! unit has in force, and starts the command as a transient unit that has the same.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::Value;

use super::{CommandError, Subcommand};

/// Why a command does not run like a unit.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// systemd could not be asked.
    #[error("--unit: cannot ask systemd for {unit}: {why}")]
    Unknown {
        /// The unit.
        unit: String,
        /// Why not.
        why: BusError,
    },
    /// There is nothing to be like.
    #[error("--unit: systemd knows no {0}, or it starts nothing")]
    StartsNothing(String),
    /// It could not be started.
    #[error("--unit: cannot start systemd-run: {0}")]
    Start(io::Error),
}

/// Why systemd did not answer on its bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// busctl could not be started.
    #[error("busctl: {0}")]
    Start(io::Error),
    /// busctl failed, and said this.
    #[error("{0}")]
    Refused(String),
    /// Its answer was no JSON.
    #[error("busctl's answer: {0}")]
    Answer(serde_json::Error),
    /// Its answer was about something else.
    #[error("its answer names no unit")]
    NoUnit,
}

/// Runs the command line `arguments` (with the program's name) as `unit` would, in place of this process. Returns only if
/// that fails, with the reason.
pub fn run(unit: &str, subcommand: &Subcommand, arguments: &[OsString]) -> CommandError {
    if subcommand.name == "serve" {
        return CommandError::Misused {
            what: "this cannot be run",
            problems: vec!["--unit is for other commands: systemctl starts the unit".to_owned()],
        };
    }
    CommandError::failed(start(unit, &without_flag(arguments)))
}

fn start(unit: &str, arguments: &[OsString]) -> UnitError {
    let unit = if unit.contains('.') { unit.to_owned() } else { format!("{unit}.service") };
    let name = format!("rsolv-exporter-command-{}.service", std::process::id());
    let properties = match properties(&unit) {
        Ok(properties) => properties,
        Err(why) => return UnitError::Unknown { unit, why },
    };
    let Some(command) = command(&unit, &name, &properties) else {
        return UnitError::StartsNothing(unit);
    };
    // Its own words say what is wrong, such as that root is needed.
    let failure = Command::new("systemd-run").args(command).args(arguments).exec();
    UnitError::Start(failure)
}

/// What a service has in force.
fn properties(unit: &str) -> Result<Value, BusError> {
    let path = call("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", &["LoadUnit", "s", unit])?;
    let path = path.as_str().ok_or(BusError::NoUnit)?.to_owned();
    call(&path, "org.freedesktop.DBus.Properties", &["GetAll", "s", "org.freedesktop.systemd1.Service"])
}

fn call(path: &str, interface: &str, method: &[&str]) -> Result<Value, BusError> {
    let output = Command::new("busctl")
        .args(["--system", "--json=short", "call", "org.freedesktop.systemd1", path, interface])
        .args(method)
        .output()
        .map_err(BusError::Start)?;
    if !output.status.success() {
        return Err(BusError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let mut answer: Value = serde_json::from_slice(&output.stdout).map_err(BusError::Answer)?;
    Ok(answer["data"][0].take())
}

/// The arguments of systemd-run for a transient unit `name` that is like `unit`, up to the program's flags; none if the
/// unit starts nothing.
fn command(unit: &str, name: &str, properties: &Value) -> Option<Vec<OsString>> {
    let list = |property: &str| properties[property]["data"].as_array().map_or(&[][..], Vec::as_slice);
    let start = list("ExecStart").first()?;
    let mut command: Vec<String> =
        ["--quiet", "--collect", "--wait", "--pipe", "--service-type=exec"].map(str::to_owned).into();
    command.push(format!("--unit={name}"));
    let mut set = |property: &str, value: &str| command.push(format!("--property={property}={value}"));
    for property in ["User", "Group"] {
        if let Some(value) = properties[property]["data"].as_str().filter(|value| !value.is_empty()) {
            set(property, value);
        }
    }
    if properties["DynamicUser"]["data"] == true {
        set("DynamicUser", "yes");
    }
    for property in ["SupplementaryGroups", "StateDirectory"] {
        list(property).iter().filter_map(Value::as_str).for_each(|value| set(property, value));
    }
    for property in ["LoadCredential", "LoadCredentialEncrypted"] {
        for credential in list(property) {
            set(property, &format!("{}:{}", credential[0].as_str()?, credential[1].as_str()?));
        }
    }
    for credential in list("SetCredential") {
        let bytes = credential[1].as_array()?.iter().filter_map(Value::as_u64);
        let escaped: String = bytes.map(|byte| format!("\\x{byte:02x}")).collect();
        set("SetCredential", &format!("{}:{escaped}", credential[0].as_str()?));
    }
    for file in list("EnvironmentFiles") {
        let optional = if file[1] == true { "-" } else { "" };
        set("EnvironmentFile", &format!("{optional}{}", file[0].as_str()?));
    }
    // The credentials of a unit are in a folder of its own, which settings name.
    let moved = |text: &str| text.replace(&format!("/run/credentials/{unit}/"), &format!("/run/credentials/{name}/"));
    for variable in list("Environment").iter().filter_map(Value::as_str) {
        command.push(format!("--setenv={}", moved(variable)));
    }
    command.push("--".to_owned());
    command.push(start[0].as_str()?.to_owned());
    let flags = start[1].as_array()?.iter().skip(1).filter_map(Value::as_str);
    command.extend(flags.filter(|flag| *flag != "serve").map(moved));
    Some(command.into_iter().map(OsString::from).collect())
}

/// The arguments after the program's name without `--unit`, for the unit to run.
fn without_flag(arguments: &[OsString]) -> Vec<OsString> {
    let is_flag = |argument: &OsStr| argument == "--unit" || argument.to_string_lossy().starts_with("--unit=");
    arguments.iter().skip(1).filter(|argument| !is_flag(argument)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transient_unit_has_what_the_unit_has() {
        let unit = "rsolv-exporter.service";
        let properties = serde_json::json!({
            "ExecStart": {"data": [["/usr/bin/rsolv-exporter", ["/usr/bin/rsolv-exporter", "serve", "--config.file=/etc/x.toml"], false]]},
            "User": {"data": "rsolv-exporter"},
            "Group": {"data": ""},
            "DynamicUser": {"data": true},
            "StateDirectory": {"data": ["rsolv-exporter"]},
            "LoadCredential": {"data": [["database-password", "/etc/rsolv-exporter/credentials/database-password"]]},
            "SetCredential": {"data": [["database-password", [10]]]},
            "EnvironmentFiles": {"data": [["/etc/default/x", true]]},
            "Environment": {"data": ["A=b c", "P=/run/credentials/rsolv-exporter.service/database-password"]},
        });
        let command = command(unit, "one.service", &properties).unwrap();
        assert_eq!(
            command,
            [
                "--quiet",
                "--collect",
                "--wait",
                "--pipe",
                "--service-type=exec",
                "--unit=one.service",
                "--property=User=rsolv-exporter",
                "--property=DynamicUser=yes",
                "--property=StateDirectory=rsolv-exporter",
                "--property=LoadCredential=database-password:/etc/rsolv-exporter/credentials/database-password",
                "--property=SetCredential=database-password:\\x0a",
                "--property=EnvironmentFile=-/etc/default/x",
                "--setenv=A=b c",
                "--setenv=P=/run/credentials/one.service/database-password",
                "--",
                "/usr/bin/rsolv-exporter",
                "--config.file=/etc/x.toml",
            ]
        );
    }

    #[test]
    fn a_unit_that_is_not_there_starts_nothing() {
        assert_eq!(command("a.service", "b.service", &serde_json::json!({"ExecStart": {"data": []}})), None);
    }

    #[test]
    fn the_flag_is_for_this_process_alone() {
        let arguments = ["rsolv-exporter", "check", "--unit", "--format", "json", "--unit=x"].map(OsString::from);
        assert_eq!(without_flag(&arguments), ["check", "--format", "json"]);
    }
}
