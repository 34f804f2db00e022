# Test a mail client with Perl's own Test::More and Net::POP3: `prove client.t`
use strict;
use warnings;
use HTTP::Tiny;
use IPC::Open2;
use JSON::PP qw(decode_json encode_json);
use Net::POP3;
use Test::More;

# It ends with its input, which is closed when this process ends, however it ends.
my $pid = open2(my $output, my $input, qw(mailgate harness --account mrose:secret));
my $about = decode_json(scalar <$output>);      # ports, ca_file, api, token ...

sub ask {
    my ($method, $path, $body) = @_;
    my $response = HTTP::Tiny->new(timeout => 10)->request($method, $about->{api} . $path, {
        headers => { Authorization => "Bearer $about->{token}", 'Content-Type' => 'application/json' },
        defined $body ? (content => encode_json($body)) : (),
    });
    die "$method $path: $response->{status} $response->{content}" unless $response->{success};
    return $response->{content} eq '' ? undef : decode_json($response->{content});
}

# The client that is tested: fetch all mail, and delete what was fetched.
sub fetch_mail {
    my ($host, $port, $user, $password) = @_;
    my $client = Net::POP3->new($host, Port => $port, Timeout => 10) or die "no connection: $@";
    defined(my $count = $client->login($user, $password)) or die 'no login';
    my @fetched;
    for my $number (1 .. $count) {
        if (my $lines = $client->get($number)) {
            push @fetched, join '', @$lines;
        }
        elsif (!$ENV{BROKEN_CLIENT}) {
            next;       # try again the next time
        }
        $client->delete($number);
    }
    $client->quit;
    return @fetched;
}

my @ids = map {
    ask('POST', '/maildrops/mrose/messages', { content => "Subject: $_\n\nhello\n" })->{unique_id}
} qw(one two);
ask('POST', '/faults', { do => 'error', command => 'RETR 1', code => 'SYS/TEMP' });

my @fetched = fetch_mail($about->{host}, $about->{ports}{pop3}, 'mrose', 'secret');

is_deeply(\@fetched, ["Subject: two\n\nhello\n"], 'what could be fetched was');
my $session = ask('GET', '/sessions/latest?wait=ended');
is($session->{end}, 'QUIT', 'the session ended in order');
is_deeply($session->{deleted}, [$ids[1]], 'a message that cannot be fetched stays');

close $input;
my $status = do { local $?; waitpid $pid, 0; $? };
is($status, 0, 'the harness ended');
done_testing();
