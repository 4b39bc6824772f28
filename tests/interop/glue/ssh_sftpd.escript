#!/usr/bin/env escript
%% Serve a directory with Erlang/OTP's own ssh_sftpd.
%%
%% Usage: escript ssh_sftpd.escript DIRECTORY DIRECTORY-OF-HOST-KEYS USER   (the password is in PASSWORD)

main([Root, Keys, User]) ->
    Password = os:getenv("PASSWORD"),
    ok = ssh:start(),
    {ok, Daemon} = ssh:daemon({127, 0, 0, 1}, 0, [
        {system_dir, Keys},
        {user_passwords, [{User, Password}]},
        {auth_methods, "password"},
        {subsystems, [ssh_sftpd:subsystem_spec([{cwd, Root}])]}
    ]),
    {ok, Information} = ssh:daemon_info(Daemon),
    io:format("PORT ~p~n", [proplists:get_value(port, Information)]),
    receive stop -> ok end.
