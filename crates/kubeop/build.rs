//! Notes what the binary is built from: commit, its date, and the compiler.
//!
//! Invariant: the same source gives the same values, so that builds stay reproducible.

use std::process::Command;

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}

fn main() {
    let given = |name: &str| {
        println!("cargo:rerun-if-env-changed={name}");
        #[expect(clippy::disallowed_methods, reason = "a build script is told by the environment")]
        std::env::var(name).ok()
    };
    // Where HEAD moves is written down, also in a linked worktree.
    if let Some(log) = output("git", &["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    let unknown = || "unknown".to_owned();
    let commit = given("KUBEOP_BUILD_COMMIT").or_else(|| output("git", &["rev-parse", "--short=12", "HEAD"]));
    // https://reproducible-builds.org/specs/source-date-epoch/; the two spellings are GNU's and BSD's.
    let epoch = given("SOURCE_DATE_EPOCH").and_then(|seconds| {
        let form = "+%Y-%m-%dT%H:%M:%SZ";
        output("date", &["-u", "-d", &format!("@{seconds}"), form])
            .or_else(|| output("date", &["-u", "-r", &seconds, form]))
    });
    let date = given("KUBEOP_BUILD_DATE").or(epoch).or_else(|| output("git", &["show", "-s", "--format=%cI", "HEAD"]));
    let compiler = given("RUSTC").and_then(|rustc| output(&rustc, &["--version"]));
    println!("cargo:rustc-env=KUBEOP_COMMIT={}", commit.unwrap_or_else(unknown));
    println!("cargo:rustc-env=KUBEOP_BUILT_AT={}", date.unwrap_or_else(unknown));
    println!("cargo:rustc-env=KUBEOP_RUSTC={}", compiler.unwrap_or_else(unknown));
}
