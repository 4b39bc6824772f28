#!/usr/bin/perl
# Serve a directory with Net::SFTP::SftpServer, as a subsystem of sshd. Usage: sftp_server.pl DIRECTORY
use strict;
use warnings;
use Net::SFTP::SftpServer ( { log => 'local5' }, qw ( :LOG :ACTIONS ) );

my $directory = shift;
chdir $directory or die "$directory: $!";
my $server = Net::SFTP::SftpServer->new(
  home       => $directory,
  file_perms => 0640,
  dir_perms  => 0750,
  deny       => NET_SFTP_SYMLINKS,
);
$server->run();
