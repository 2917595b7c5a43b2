# Sends bytes from one node to another, as fast as they go.
#
#   receive PORT            prints "listening", takes what one peer sends, and tells it how much that was
#   send HOST PORT MIB      sends that much, and prints the milliseconds until the peer has it all

# A peer that never comes must not leave us behind for ever.
alarm 300;
my $piece = 1 << 20;

if ($ARGV[0] eq "receive") {
    my $server = IO::Socket::INET->new(LocalPort => $ARGV[1], Listen => 1, ReuseAddr => 1) or die "listen: $!\n";
    print "listening\n";
    my $peer = peer($server);
    my ($all, $got) = (0);
    while ($got = sysread($peer, my $bytes, $piece)) { $all += $got; }
    defined $got or die "read: $!\n";
    syswrite($peer, "$all\n");
} else {
    my (undef, $host, $port, $mib) = @ARGV;
    my $peer = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port) or die "connect: $!\n";
    my $bytes = "\0" x $piece;
    my $start = now();
    for (1 .. $mib) {
        my $at = 0;
        while ($at < $piece) { $at += syswrite($peer, $bytes, $piece - $at, $at) || die "write: $!\n"; }
    }
    $peer->shutdown(1);
    my $told = <$peer> // "nothing";
    $told == $mib * $piece or die "sent " . $mib * $piece . " bytes, the peer has $told";
    printf("%.3f\n", now() - $start);
}
