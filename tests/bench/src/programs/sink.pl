# Takes what each peer sends until it is done, then tells it how much that was.
#
#   PORT

$SIG{CHLD} = "IGNORE";
my $server = IO::Socket::INET->new(LocalPort => $ARGV[0], Listen => 16, ReuseAddr => 1) or die "listen: $!\n";
while (1) {
    my $peer = $server->accept or next;
    next if fork();
    my ($all, $got) = (0);
    while ($got = sysread($peer, my $bytes, 1 << 20)) { $all += $got; }
    syswrite($peer, "$all\n") if defined $got;
    exit;
}
