use strict;
use warnings;
use POSIX ();
use IO::Socket::INET;

$| = 1;

# Milliseconds since the machine was started: the same for all nodes of one machine. perl-base has no module for it.
sub now {
    my $call = { x86_64 => 228, aarch64 => 113 }->{ (POSIX::uname())[4] } or die "no clock on this architecture\n";
    my $time = "\0" x 16;
    syscall($call, 1, $time) == 0 or die "clock: $!\n";
    my ($seconds, $nanos) = unpack("qq", $time);
    return $seconds * 1e3 + $nanos / 1e6;
}

# The peer that comes; but whoever started us may end before one does, and that ends our input.
sub peer {
    my ($server) = @_;
    my $wanted = "";
    vec($wanted, fileno($_), 1) = 1 for (*STDIN, $server);
    my $count = select(my $ready = $wanted, undef, undef, undef);
    exit 1 if $count < 1 || vec($ready, fileno(STDIN), 1);
    return $server->accept || die "accept: $!\n";
}
