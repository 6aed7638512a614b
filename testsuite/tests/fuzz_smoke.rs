//! Every fuzz body on a few thousand inputs, so that it works when somebody fuzzes.

use calque::diff::Rng;
use testsuite::fuzz;

#[test]
fn random_code_in_every_mode() {
    let mut rng = Rng::new(5);
    for _ in 0..1500 {
        let len = 34 + rng.below(60);
        let data: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
        fuzz::code(&data);
    }
    fuzz::code(&[]);
}

#[test]
fn run_case_answers_whatever_it_gets() {
    let good = r#"{"id":1,"mode":"real16","regs":{"rip":"0x100","rax":1},"map":[[0,4096,"rwx"]],"mem":[[256,"f4"]],"stop":{"max_insns":5},"want_mem":[[0,2]],"engine":"jit"}"#;
    fuzz::run_case(good.as_bytes());
    let mut rng = Rng::new(6);
    for _ in 0..3000 {
        let mut data = good.as_bytes().to_vec();
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(data.len());
            match rng.below(4) {
                0 => data[at] = rng.next() as u8,
                1 => data[at] = rng.pick(b"0123456789\"[]{},:-ex\n"),
                2 => {
                    data.remove(at);
                }
                _ => data.insert(at, rng.pick(b"0123456789\"[]{},:-ex\n")),
            }
        }
        fuzz::run_case(&data);
    }
}
