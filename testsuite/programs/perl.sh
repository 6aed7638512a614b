# Perl's own tests of numbers, from its source package: every line that they print, but the comments. Some write files beside
# themselves, and some print addresses, which are never the same.
here=$PWD
cp -r /perl/t /perl/lib /perl/cpan /perl/tests-of-lib . || exit 1
run() { # run FOLDER TEST...
    cd "$1" || exit 1
    shift
    for test; do
        perl "$test" >/tmp/lines 2>/dev/null
        echo "$test: status $?, $(grep -ac '^ok' /tmp/lines) ok, $(grep -ac '^not ok' /tmp/lines) not ok, $(grep -av '^ *#' /tmp/lines | sed "s/(0x[0-9a-f]*)/(address)/g; s/'[0-9a-f]\{12\}'/(address)/g" | sha256sum | cut -c 1-32)"
        grep -a '^not ok' /tmp/lines | head -n 5
    done
}
run "$here"/t opbasic/arith.t opbasic/cmp.t base/num.t op/64bitint.t op/arith2.t op/auto.t op/bop.t op/chop.t op/chr.t op/cmpchain.t op/exp.t \
    op/hexfp.t op/inc.t op/infnan.t op/int.t op/lc.t op/negate.t op/numconvert.t op/numify.t op/oct.t op/ord.t op/pack.t op/pow.t \
    op/rand.t op/range.t op/repeat.t op/reverse.t op/sort.t op/split.t op/sprintf.t op/sprintf2.t op/srand.t op/substr.t op/tr.t op/vec.t op/ver.t \
    op/time.t op/overload_integer.t op/upgrade.t op/utf8decode.t op/closure.t op/hash.t op/join.t op/index.t \
    ../tests-of-lib/integer.t ../tests-of-lib/overload64.t ../tests-of-lib/builtin.t ../tests-of-lib/bytes.t ../tests-of-lib/sort.t \
    re/pat.t re/regexp.t re/subst.t re/qr.t uni/lower.t uni/sprintf.t
run "$here"/cpan/Math-Complex t/Complex.t t/Trig.t t/underbar.t
run "$here"/cpan/Math-BigInt t/backermann-mbi.t t/bdstr-mbf.t t/bfib-mbi.t t/big_pi_e.t t/bigfltpm.t t/bigintc.t t/bigintpm.t t/bigints.t t/biglog.t \
    t/bigroot.t t/blucas-mbi.t t/bpi-mbf.t t/bpow-mbf.t t/dparts-mbf.t t/from_ieee754-mbf.t t/inf_nan.t t/mbimbf.t t/round.t t/to_ieee754-mbf.t t/trap.t
run "$here"/cpan/Math-BigInt-FastCalc t/bigintfc.t t/biglog.t t/bigroot.t
run "$here"/cpan/Math-BigRat t/bigrat.t t/bigratpm.t t/big_ap.t t/binv-mbr.t t/downgrade.t t/hang.t
# shellcheck disable=SC2046
run "$here"/cpan/bignum $(cd "$here/cpan/bignum" && ls t/*.t)
