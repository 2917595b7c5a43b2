# The destination of a move by Docker's own checkpoint API: image and changed files into a container that was created and never
# ran, then its start.
#
#   CONTAINER PORT                  prints "listening", then when all was there, and when it ran

alarm 1800;
my ($container, $port) = @ARGV;
chomp(my $id = `docker inspect --format '{{.Id}}' $container`);
chomp(my $layer = `docker inspect --format '{{.GraphDriver.Data.UpperDir}}' $container`);
my $images = "/var/lib/docker/containers/$id/checkpoints";
mkdir($images);
my $server = IO::Socket::INET->new(LocalPort => $port, Listen => 1, ReuseAddr => 1) or die "listen: $!\n";
print "listening\n";
my $peer = peer($server);
my $child = fork() // die "fork: $!\n";
if (!$child) {
    open(STDIN, "<&", $peer) or die "$!\n";
    exec("tar", "--extract", "--directory", $images);
}
waitpid($child, 0);
$? == 0 or die "tar failed\n";
system("mv", "$images/gaps", "$images/rate", $layer) == 0 or die "mv failed\n";
syswrite($peer, "have it\n");
my $there = now();
system("docker start --checkpoint move $container >/dev/null") == 0 or die "docker start --checkpoint failed\n";
my $runs = now();
# The engine keeps it, and would refuse the next one of that name.
system("rm", "-rf", "$images/move") == 0 or die "rm failed\n";
printf("%.3f %.3f\n", $there, $runs);
