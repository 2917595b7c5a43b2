# Processor time and resident memory of programs of a node, by name.
#
#   NAME...                         prints for each: name, milliseconds of processor time so far, KiB resident

my %wanted = map { $_ => [0, 0] } @ARGV;
my $tick = 1000 / POSIX::sysconf(POSIX::_SC_CLK_TCK());
my $page = POSIX::sysconf(POSIX::_SC_PAGESIZE()) / 1024;
for my $folder (glob("/proc/[0-9]*")) {
    # It may end while we look.
    open(my $file, "<", "$folder/stat") or next;
    my $stat = <$file> // next;
    my ($name, $rest) = $stat =~ /^\d+ \((.*)\) (.*)$/ or next;
    my $sums = $wanted{$name} or next;
    my @fields = split(" ", $rest);
    $sums->[0] += ($fields[11] + $fields[12]) * $tick;
    $sums->[1] += $fields[21] * $page;
}
printf("%s %.0f %.0f\n", $_, @{ $wanted{$_} }) for sort keys %wanted;
