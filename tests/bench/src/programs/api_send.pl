# The source of a move by Docker's own checkpoint API: checkpoint, then image and changed files to the destination.
#
#   CONTAINER HOST PORT             prints when it began, when the dump was there, and when all was sent

alarm 1800;
my ($container, $host, $port) = @ARGV;
chomp(my $id = `docker inspect --format '{{.Id}}' $container`);
chomp(my $layer = `docker inspect --format '{{.GraphDriver.Data.UpperDir}}' $container`);
my $start = now();
system("docker checkpoint create $container move >/dev/null") == 0 or die "docker checkpoint create failed\n";
my $dumped = now();
my $peer = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port) or die "connect: $!\n";
my $child = fork() // die "fork: $!\n";
if (!$child) {
    open(STDOUT, ">&", $peer) or die "$!\n";
    exec("tar", "--create", "--directory", "/var/lib/docker/containers/$id/checkpoints", "move",
        "--directory", $layer, "gaps", "rate");
}
waitpid($child, 0);
$? == 0 or die "tar failed\n";
$peer->shutdown(1);
my $told = <$peer> // "";
$told eq "have it\n" or die "the destination does not have it\n";
printf("%.3f %.3f %.3f\n", $start, $dumped, now());
