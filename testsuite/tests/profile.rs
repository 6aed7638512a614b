//! `--profile` finds the loop that a guest spends its time in, and names it.

use testsuite::engine;
use testsuite::files::Scratch;
use testsuite::guests;
use testsuite::program::calque;

#[test]
fn the_hottest_loop_is_found_and_named() {
    if engine::available(&["jit"]).is_empty() {
        return;
    }
    // mov ecx, 3 << 27; busy: dec ecx; jnz busy; mov edx, 0x501; out dx, al
    let code = [0xb9, 0, 0, 0, 0x18, 0x49, 0x75, 0xfd, 0xba, 1, 5, 0, 0, 0xee];
    let scratch = Scratch::new();
    let image = scratch.file("busy.bin", &code);
    let names = scratch.file("names", b"0000000000100005 T busy\n0000000000200000 T far\n");
    let mut command = calque();
    command.args([
        "run",
        "--load-address",
        guests::ADDRESS_TEXT,
        "-m",
        "16",
        "--debug-exit",
        "--serial",
        "null",
    ]);
    command.args(["--time-limit", "60", "--profile", "--symbols"]).arg(names).arg(image);
    let output = command.output().expect("calque runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let profile = said.split_once("profile: ").expect("a profile").1;
    let samples: u64 = profile.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(samples > 10, "{said}");
    // The line below the heading is the hottest place.
    let hottest = profile.lines().nth(2).expect("a place");
    assert!(hottest.contains("kernel 0x100005  busy+0x0"), "{said}");
    assert!(profile.contains("guest code at 0x100005  busy+0x0") && profile.contains("dec ecx"), "{said}");
}
