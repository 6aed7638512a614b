# Hashes, regular expressions, string building, sorting, closures. perl.pl ROUNDS
use strict;
use warnings;

my ($total, $seed) = (0, 12345);
my $next = sub { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff };
for my $turn (1 .. $ARGV[0]) {
    my %count;
    $count{ "w" . ($next->() % 997) }++ for 1 .. 4000;
    my @best = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
    my $text = join " ", map { "$_=$count{$_}" } @best[0 .. 199];
    my $swapped = $text;
    $swapped =~ s/(\w+)=(\d+)/$2:$1/g;
    my $vowels = () = $swapped =~ /[1357]w\d/g;
    my @cells = map { $_ * $_ % 101 } 1 .. 2000;
    my $sum = 0;
    for my $i (1 .. $#cells) { $sum += abs($cells[$i] - $cells[ $i - 1 ]) }
    my $fold = "";
    $fold .= chr(97 + ord($_) % 26) for split //, substr $text, 0, 500;
    $fold =~ tr/a-m/n-z/;
    $total = ($total * 31 + $vowels + $sum + length($fold) + unpack("%32C*", $fold)) % 1000003;
}
print "$total\n";
