# Dumps a frozen container into RAM and restores that image beside it, by runc alone; prints what both took in milliseconds
# and the bytes of the image. The container goes on afterwards.
#
#   CONTAINER ROOT IMAGE BUNDLE COPY
#
# ROOT is the runtime's state, IMAGE a folder for the image, BUNDLE one for a second container from it, COPY its name.

my ($container, $root, $image, $bundle, $copy) = @ARGV;
my $second = "$bundle/state";
my $engine = "docker";
my $paused = 0;

sub quietly { system("$_[0] >>$bundle/log 2>&1") == 0 or die "$_[0]: " . `tail -n 3 $bundle/log` }

# Whatever happens: nothing of ours stays, and nobody stays frozen.
END {
    my $status = $?;
    if (defined $copy) {
        system("runc --root $second delete --force $copy >/dev/null 2>&1");
        system("$engine unpause $container >/dev/null 2>&1") if $paused;
        system("rm -rf $image $bundle");
    }
    $? = $status;
}
$SIG{$_} = sub { exit 1 } for qw(TERM INT HUP ALRM);
alarm 600;

system("rm -rf $image && mkdir -p $image $second") == 0 or die;
# The service's root must be able to read it when it is restored.
chmod(0711, $image);
quietly("$engine pause $container");
$paused = 1;
my $dump = now();
quietly("runc --root $root checkpoint --leave-running --file-locks --ext-unix-sk --image-path $image --work-path $image $container");
$dump = now() - $dump;
quietly("chmod -R a+rX $image");
my ($bytes) = `du -s --apparent-size -B1 $image` =~ /^(\d+)/ or die "du\n";
my $restore = now();
quietly("runc --root $second restore --detach --no-subreaper --file-locks --ext-unix-sk --image-path $image --work-path $image --bundle $bundle $copy");
$restore = now() - $restore;
printf("%.3f %.3f %d\n", $dump, $restore, $bytes);
